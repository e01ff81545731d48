/** Steps over time: a lane for each, a bar for each execution. */

import { useState } from "preact/hooks";
import { count, formatDuration } from "../model/format";
import { durationOf, stepState, type Outcome, type Span, type StepStory, type Story } from "../model/story";
import { laneBars, scaleOf, type Scale } from "../model/timeline";
import { Icon } from "./icon";
import { Empty } from "./parts";

interface TimelineProps {
  story: Story;
  version: number;
  now: number;
}

const SHOWN_SPANS = 50;
const WIDTH = 1000;

const OUTCOMES: Record<Outcome, string> = {
  running: "running",
  done: "done",
  retried: "failed, tried again",
  waited: "waits",
  failed: "failed",
  stopped: "stopped",
};

export function Timeline({ story, now }: TimelineProps) {
  const steps = [...story.steps.values()];
  if (!steps.length) {
    return <Empty title={story.ended ? "No step has run." : "No step has run yet."} />;
  }
  const scale = scaleOf(steps, now);
  return (
    <div class="timeline">
      <ol>
        {steps.map((step) => (
          <Lane key={step.name} step={step} scale={scale} now={now} />
        ))}
      </ol>
      {scale.kind === "time" ? (
        <p class="muted number axis" role="group" aria-label="Time since the first step began">
          <span>0</span>
          <span>{formatDuration(scale.to - scale.from)}</span>
        </p>
      ) : (
        <p class="muted axis">In the order of events: an older release did not keep their times.</p>
      )}
    </div>
  );
}

interface LaneProps {
  step: StepStory;
  scale: Scale;
  now: number;
}

function Lane({ step, scale, now }: LaneProps) {
  const [open, setOpen] = useState(false);
  const bars = laneBars(step.spans, scale, now);
  return (
    <li class="lane">
      <button type="button" class="lane-head" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="right" />
        <span class={`lane-name is-${stepState(step)}`}>{step.name}</span>
        <span class="lane-facts number">{factsOf(step, now)}</span>
      </button>
      <svg class="bars" viewBox={`0 0 ${WIDTH} ${bars.height}`} preserveAspectRatio="none" height={bars.height} aria-hidden="true">
        {bars.paths.map(([outcome, path]) => (
          <path key={outcome} class={`bar ${outcome}`} d={path} />
        ))}
      </svg>
      {open && <Spans spans={step.spans} now={now} />}
    </li>
  );
}

function Spans({ spans, now }: { spans: Span[]; now: number }) {
  const shown = spans.slice(-SHOWN_SPANS);
  return (
    <div class="scroll-x" tabIndex={0} role="region" aria-label="Executions">
      <table class="spans">
        <thead>
          <tr>
            <th scope="col">Took</th>
            <th scope="col">Attempt</th>
            <th scope="col">What came of it</th>
            <th scope="col">Events</th>
          </tr>
        </thead>
        <tbody>
          {shown.map((span) => (
            <tr key={span.from}>
              <td class="number">{spentOf(span, now)}</td>
              <td class="number">{span.attempt}</td>
              <td>
                {span.input} → {span.output ?? OUTCOMES[span.outcome]}
              </td>
              <td class="number">
                {span.from}–{span.to ?? "…"}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {spans.length > shown.length && <p class="muted">The last {shown.length} of {spans.length} executions.</p>}
    </div>
  );
}

function spentOf(span: Span, now: number): string {
  const spent = span.outcome === "running" && span.startedAt !== null ? now - span.startedAt : durationOf(span);
  return spent === null ? "—" : formatDuration(Math.max(0, spent));
}

function factsOf(step: StepStory, now: number): string {
  const facts: string[] = [];
  const last = step.spans.at(-1);
  const durations = step.spans.map(durationOf).filter((spent): spent is number => spent !== null);
  if (step.spans.length > 1) facts.push(`×${step.spans.length}`);
  if (step.retries) facts.push(step.retries === 1 ? "1 retry" : `${step.retries} retries`);
  if (step.preparing) facts.push(`${count(step.preparing, "event")} queued`);
  if (last?.outcome === "running") facts.push(spentOf(last, now));
  else if (last && last.outcome !== "done" && last.outcome !== "retried") facts.push(OUTCOMES[last.outcome]);
  if (durations.length > 1) facts.push(`longest ${formatDuration(Math.max(...durations))}`);
  else if (durations[0] !== undefined && last?.outcome !== "running") facts.push(formatDuration(durations[0]));
  return facts.join(" · ");
}
