/** What a run's events tell: which steps ran when, how often, and what came of it. */

import { isQuestion, isStop, type RunEvent } from "../api/types";

export type Outcome = "running" | "done" | "retried" | "waited" | "failed" | "stopped";

/** One execution of a step. `startedAt` and `endedAt` are null where the server does not know them. */
export interface Span {
  step: string;
  worker: string;
  input: string;
  output: string | null;
  attempt: number;
  outcome: Outcome;
  from: number;
  to: number | null;
  startedAt: number | null;
  endedAt: number | null;
}

export interface StepStory {
  name: string;
  spans: Span[];
  /** What runs now, by worker. */
  open: Map<string, Span>;
  preparing: number;
  retries: number;
}

const NO_OUTPUT = "NoneType";

/** `<class 'module.Name'>` and `module.Name` to `Name`. */
export function className(name: unknown): string {
  const text = typeof name === "string" ? name : "";
  const dotted = /^<class '(.*)'>$/.exec(text)?.[1] ?? text;
  return dotted.slice(dotted.lastIndexOf(".") + 1);
}

export class Story {
  readonly steps = new Map<string, StepStory>();
  /** How often an event of each class went into steps, came out of them, and was in the stream. */
  private readonly counts = { into: new Map<string, number>(), out: new Map<string, number>(), stream: new Map<string, number>() };
  readonly questions: RunEvent[] = [];
  last = -1;
  private lastAt: number | null = null;
  ended = false;
  /** Ended executions without an output, whose reason the next events tell. */
  private unexplained: Span[] = [];
  /** Executions that wait for an answer, and run again when it has come. */
  private waited: Span[] = [];

  add(event: RunEvent): void {
    this.last = event.sequence;
    this.lastAt = event.at;
    switch (event.type) {
      case "StepStateChanged":
        return this.change(event);
      case "WorkflowIdleEvent":
        return this.explain("waited");
      case "StepFailedEvent":
      case "WorkflowFailedEvent":
        this.explain("failed", String(event.value.step_name ?? ""));
    }
    this.count("stream", event.type);
    if (isQuestion(event)) {
      this.questions.push(event);
      this.explain("waited");
    }
    if (isStop(event)) this.ended = true;
  }

  /** Says of what still runs that it was stopped: the run has ended. */
  close(): void {
    this.ended = true;
    for (const step of this.steps.values()) {
      for (const span of step.open.values()) stop(span, this.last, this.lastAt);
      step.open.clear();
      step.preparing = 0;
    }
  }

  /** The story of a run that is held: what still ran when it came to a halt does not run. */
  halted(): Story {
    const halt = (span: Span): Span =>
      span.outcome === "running" ? { ...span, outcome: "stopped", to: this.last, endedAt: this.lastAt } : span;
    const steps = [...this.steps].map(([name, step]): [string, StepStory] => [
      name,
      { ...step, spans: step.spans.map(halt), open: new Map(), preparing: 0 },
    ]);
    return Object.assign(new Story(), this, { steps: new Map(steps) });
  }

  /** How many events of a class there were: the same one is told of where it comes out and goes in. */
  timesSeen(type: string): number {
    return Math.max(...Object.values(this.counts).map((counts) => counts.get(type) ?? 0));
  }

  private change(event: RunEvent): void {
    const { name, step_state: state, worker_id: worker } = event.value;
    const step = this.step(String(name));
    const input = className(event.value.input_event_name);
    if (state === "preparing") {
      step.preparing += 1;
    } else if (state === "running") {
      step.preparing = Math.max(0, step.preparing - 1);
      this.begin(step, String(worker), input, event);
    } else {
      this.end(step, String(worker), event);
    }
  }

  private begin(step: StepStory, worker: string, input: string, event: RunEvent): void {
    const before = take(this.unexplained, step.name, input);
    const waited = before ? undefined : take(this.waited, step.name, input);
    if (before) {
      before.outcome = "retried";
      step.retries += 1;
    }
    // A process that died left its steps without an end; they run again.
    const cut = step.open.get(worker);
    if (cut) stop(cut, event.sequence, event.at);
    if (!before && !waited) this.count("into", input);
    const span: Span = {
      step: step.name,
      worker,
      input,
      output: null,
      attempt: before ? before.attempt + 1 : (waited?.attempt ?? 1),
      outcome: "running",
      from: event.sequence,
      to: null,
      startedAt: event.at,
      endedAt: null,
    };
    step.open.set(worker, span);
    step.spans.push(span);
  }

  private end(step: StepStory, worker: string, event: RunEvent): void {
    const span = step.open.get(worker);
    if (!span) return;
    step.open.delete(worker);
    const output = event.value.output_event_name;
    span.to = event.sequence;
    span.endedAt = event.at;
    span.outcome = "done";
    span.output = typeof output === "string" ? className(output) : null;
    if (span.output === NO_OUTPUT) span.output = null;
    if (span.output) this.count("out", span.output);
    if (output !== null) return;
    this.unexplained.push(span);
    // A question of `wait_for_event` is written before its step is said to be over.
    if (this.questions.at(-1)?.sequence === event.sequence - 1) this.explain("waited");
  }

  private explain(outcome: Outcome, step?: string): void {
    for (const span of this.unexplained) if (!step || span.step === step) span.outcome = outcome;
    if (outcome === "waited") this.waited.push(...this.unexplained);
    this.unexplained = [];
  }

  private step(name: string): StepStory {
    let step = this.steps.get(name);
    if (!step) this.steps.set(name, (step = { name, spans: [], open: new Map(), preparing: 0, retries: 0 }));
    return step;
  }

  private count(where: keyof Story["counts"], type: string): void {
    this.counts[where].set(type, (this.counts[where].get(type) ?? 0) + 1);
  }
}

function take(spans: Span[], step: string, input: string): Span | undefined {
  const index = spans.findIndex((span) => span.step === step && span.input === input);
  return index < 0 ? undefined : spans.splice(index, 1)[0];
}

function stop(span: Span, to: number, endedAt: number | null): void {
  Object.assign(span, { outcome: "stopped", to, endedAt });
}

export function durationOf(span: Span): number | null {
  return span.startedAt !== null && span.endedAt !== null ? span.endedAt - span.startedAt : null;
}

export type NodeState = "idle" | "queued" | "running" | "waiting" | "done" | "failed" | "stopped";

export function stepState(step: StepStory | undefined): NodeState {
  const last = step?.spans.at(-1);
  if (!step) return "idle";
  if (step.open.size > 0) return "running";
  if (step.preparing > 0) return "queued";
  switch (last?.outcome) {
    case undefined:
      return "idle";
    case "waited":
      return "waiting";
    case "failed":
      return "failed";
    case "stopped":
      return "stopped";
    case "retried":
      return "queued";
    case "running":
    case "done":
      return "done";
  }
}
