/** Icons, drawn with strokes of the text's colour. */

const PATHS = {
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  terminal: "M2.5 4.5 6 8l-3.5 3.5M8 12h5.5",
  sun: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1",
  moon: "M13.5 9.7A6 6 0 1 1 6.3 2.5a4.8 4.8 0 0 0 7.2 7.2z",
  auto: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 2v12M10 4v8M12 5.5v5",
  right: "M6 3l5 5-5 5",
  left: "M10 3 5 8l5 5",
  play: "M4.5 2.5v11l9-5.5z",
  stop: "M4 4h8v8H4z",
  trash: "M2.5 4.5h11M6 4.5v-2h4v2M4 4.5l.7 9h6.6l.7-9M6.7 7v4M9.3 7v4",
  again: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  forward: "M2.5 3.5v9L8 8zM8 3.5v9L13.5 8z",
  person: "M8 2.5a2.6 2.6 0 1 0 0 5.2 2.6 2.6 0 0 0 0-5.2M2.8 13.5a5.2 5.2 0 0 1 10.4 0",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  check: "M3 8.5 6.5 12 13 4.5",
  cross: "M4 4l8 8M12 4l-8 8",
  edit: "M3 13l.6-3L11 2.6 13.4 5 6 12.4z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  down: "M8 2.5v10M4 9l4 4 4-4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
