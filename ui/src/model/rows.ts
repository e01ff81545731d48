/** Which rows of a long list are in sight. */

export interface PlacedRow<T> {
  item: T;
  index: number;
  offset: number;
}

export interface RowView<T> {
  rows: PlacedRow<T>[];
  height: number;
}

const BEYOND = 8;

/** Rows are of one height, but for the open ones, which are `open` pixels higher. */
export function rowsInSight<T extends { sequence: number }>(
  items: readonly T[],
  open: ReadonlyMap<number, number>,
  row: number,
  top: number,
  height: number,
): RowView<T> {
  // Few are open, and items are in order of their sequence.
  const opened = [...open]
    .map(([sequence, extra]) => ({ index: indexOf(items, sequence), extra }))
    .filter(({ index }) => index >= 0)
    .sort((one, other) => one.index - other.index);
  const offsetOf = (index: number): number => {
    let offset = index * row;
    for (const one of opened) if (one.index < index) offset += one.extra;
    return offset;
  };
  const at = (offset: number): number => {
    let low = 0;
    let high = items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (offsetOf(middle + 1) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  const first = Math.max(0, at(top) - BEYOND);
  const last = Math.min(items.length, at(top + height) + 1 + BEYOND);
  const rows = items.slice(first, last).map((item, at) => ({ item, index: first + at, offset: offsetOf(first + at) }));
  return { rows, height: offsetOf(items.length) };
}

function indexOf<T extends { sequence: number }>(items: readonly T[], sequence: number): number {
  let low = 0;
  let high = items.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const found = items[middle]?.sequence ?? 0;
    if (found === sequence) return middle;
    if (found < sequence) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
