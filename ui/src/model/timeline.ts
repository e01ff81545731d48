/** Where the bars of a timeline stand. */

import type { Outcome, Span, StepStory } from "./story";

/** Over time where the times of all of it are known; else over the order of events. */
export interface Scale {
  kind: "time" | "order";
  from: number;
  to: number;
}

const WIDTH = 1000;
const NARROWEST = 4;
const BAR = 9;
const GAP = 2;
const MAX_ROWS = 6;
const ORDER: Outcome[] = ["done", "waited", "stopped", "retried", "failed", "running"];

export function scaleOf(steps: StepStory[], now: number): Scale {
  let [known, from, to, last, running] = [true, Infinity, -Infinity, 1, false];
  for (const { spans } of steps) {
    for (const span of spans) {
      if (span.startedAt === null || (span.endedAt === null && span.outcome !== "running")) known = false;
      from = Math.min(from, span.startedAt ?? Infinity);
      to = Math.max(to, span.endedAt ?? -Infinity);
      last = Math.max(last, span.to ?? span.from + 1);
      running ||= span.outcome === "running";
    }
  }
  if (!known || from === Infinity) return { kind: "order", from: 0, to: last };
  return { kind: "time", from, to: Math.max(from + 0.001, running ? now : to) };
}

export interface Bars {
  height: number;
  paths: [Outcome, string][];
}

/** One path for each outcome, so that a lane of thousands of executions is still a few elements. */
export function laneBars(spans: Span[], scale: Scale, now: number): Bars {
  const x = (at: number): number => ((at - scale.from) / (scale.to - scale.from)) * WIDTH;
  const rows: number[] = [];
  const paths = new Map<Outcome, string[]>();
  for (const span of spans) {
    const time = scale.kind === "time";
    const from = x(time ? (span.startedAt ?? scale.from) : span.from);
    const end = x(time ? (span.endedAt ?? now) : (span.to ?? scale.to));
    const width = Math.max(NARROWEST, Math.min(end, WIDTH) - from);
    const start = Math.min(from, WIDTH - NARROWEST);
    const free = rows.findIndex((busy) => busy <= start);
    const row = free >= 0 ? free : Math.min(rows.length, MAX_ROWS - 1);
    rows[row] = start + width;
    const list = paths.get(span.outcome) ?? [];
    list.push(`M${start.toFixed(1)} ${row * (BAR + GAP)}h${width.toFixed(1)}v${BAR}h-${width.toFixed(1)}z`);
    paths.set(span.outcome, list);
  }
  return {
    height: Math.max(1, rows.length) * (BAR + GAP) - GAP,
    paths: ORDER.flatMap((outcome) => {
      const parts = paths.get(outcome);
      return parts ? [[outcome, parts.join("")] as [Outcome, string]] : [];
    }),
  };
}
