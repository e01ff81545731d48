import { describe, expect, it } from "vitest";
import type { JsonObject, RunEvent } from "../src/api/types";
import { className, durationOf, stepState, Story } from "../src/model/story";
import { laneBars, scaleOf } from "../src/model/timeline";

let sequence = 0;

function event(type: string, value: JsonObject = {}, types: string[] | null = null, at: number | null = null): RunEvent {
  return { type, value, types, qualified_name: type, sequence: sequence++, at };
}

function change(name: string, state: string, more: { worker?: string; input?: string; output?: string | null; at?: number } = {}): RunEvent {
  const { worker = "0", input = "In", output = null, at = null } = more;
  const value = { name, step_state: state, worker_id: worker, input_event_name: input, output_event_name: output };
  return event("StepStateChanged", value, ["InternalDispatchEvent"], at);
}

function tell(...events: RunEvent[]): Story {
  const story = new Story();
  for (const one of events) story.add(one);
  return story;
}

const outcomes = (story: Story, step = "s") => story.steps.get(step)?.spans.map((span) => [span.outcome, span.attempt]);
const state = (story: Story, step = "s") => stepState(story.steps.get(step));
const OUT = "<class 'm.Out'>";
const QUESTION = ["InputRequiredEvent"];

describe("class names", () => {
  it.each([
    ["<class 'mod.sub.Name'>", "Name"],
    ["mod.Name", "Name"],
    ["Name", "Name"],
    [null, ""],
    ["<class 'm.f.<locals>.Name'>", "Name"],
  ])("%j is cleaned", (given, expected) => expect(className(given)).toBe(expected));
});

describe("a story", () => {
  it("knows a step that runs from one that is done", () => {
    const running = tell(change("s", "running"));
    const done = tell(change("s", "running"), change("s", "not_running", { output: OUT }));
    expect([state(running), state(done), state(done, "other")]).toEqual(["running", "done", "idle"]);
  });

  it("counts a step that failed and ran again as a retry", () => {
    const story = tell(change("s", "running"), change("s", "not_running"), change("s", "running"), change("s", "not_running", { output: OUT }));
    expect([outcomes(story), story.steps.get("s")?.retries]).toEqual([[["retried", 1], ["done", 2]], 1]);
  });

  it("takes a step that returned nothing for done", () => {
    const none = "<class 'NoneType'>";
    const story = tell(change("s", "running"), change("s", "not_running", { output: none }), change("s", "running"));
    expect(outcomes(story)).toEqual([["done", 1], ["running", 1]]);
  });

  it("says of a step that waits for an event that it waits, whichever event comes first", () => {
    const after = tell(change("s", "running"), change("s", "not_running"), event("Ask", {}, QUESTION));
    const before = tell(change("s", "running"), event("Ask", {}, QUESTION), change("s", "not_running"));
    const idle = tell(change("s", "running"), change("s", "not_running"), event("WorkflowIdleEvent", {}, ["InternalDispatchEvent"]));
    expect([state(after), state(before), state(idle)]).toEqual(["waiting", "waiting", "waiting"]);
  });

  it("does not call it a retry when a step goes on after an answer", () => {
    const story = tell(change("s", "running"), change("s", "not_running"), event("Ask", {}, QUESTION), change("s", "running"));
    expect([outcomes(story), story.steps.get("s")?.retries]).toEqual([[["waited", 1], ["running", 1]], 0]);
  });

  it("says of steps that still ran at the end that they were stopped, and when", () => {
    const story = tell(change("s", "running", { at: 1 }), event("WorkflowCancelledEvent", {}, ["StopEvent"], 5));
    story.close();
    expect(outcomes(story)).toEqual([["stopped", 1]]);
    expect(story.steps.get("s")?.spans.map(durationOf)).toEqual([4]);
  });

  it("says which step failed", () => {
    const failed = event("WorkflowFailedEvent", { step_name: "s" }, ["StopEvent"]);
    const story = tell(change("s", "running"), change("s", "not_running"), failed);
    expect([state(story), story.ended]).toEqual(["failed", true]);
  });

  it("stops what still runs when the run has ended", () => {
    const story = tell(change("s", "running"));
    story.close();
    expect(state(story)).toBe("stopped");
  });

  it("of a run that is held says that nothing runs, and goes on from there", () => {
    const story = tell(change("s", "running", { at: 1 }), event("Tick", {}, null, 5));
    const halted = story.halted();
    expect([outcomes(halted), halted.steps.get("s")?.spans.map(durationOf), state(halted)]).toEqual([[["stopped", 1]], [4], "stopped"]);
    story.add(change("s", "not_running", { output: OUT, at: 7 }));
    expect([outcomes(story), halted.timesSeen("Tick")]).toEqual([[["done", 1]], 1]);
  });

  it("lets a step run again that a dead process left open", () => {
    const story = tell(change("s", "running"), change("s", "running"), change("s", "not_running", { output: OUT }));
    expect(outcomes(story)).toEqual([["stopped", 1], ["done", 1]]);
  });

  it("keeps workers apart", () => {
    const story = tell(
      change("s", "running", { worker: "0" }),
      change("s", "running", { worker: "1" }),
      change("s", "not_running", { worker: "0", output: OUT }),
    );
    expect(outcomes(story)).toEqual([["done", 1], ["running", 1]]);
  });

  it("counts an event once that comes out of one step and goes into another", () => {
    const story = tell(
      change("s", "running"),
      change("s", "not_running", { output: OUT }),
      change("t", "running", { input: "Out" }),
    );
    expect([story.timesSeen("Out"), story.timesSeen("In"), story.timesSeen("Never")]).toEqual([1, 1, 0]);
  });

  it("measures only what was watched from its begin to its end", () => {
    const watched = tell(change("s", "running", { at: 10 }), change("s", "not_running", { output: OUT, at: 35 }));
    const late = tell(change("s", "running"), change("s", "not_running", { output: OUT, at: 35 }));
    const durations = [watched, late].map((story) => story.steps.get("s")?.spans.map(durationOf));
    expect(durations).toEqual([[25], [null]]);
  });
});

describe("a timeline", () => {
  it("goes by time where all was watched, else by order", () => {
    const watched = tell(change("s", "running", { at: 100 }), change("s", "not_running", { output: OUT, at: 300 }));
    const stored = tell(change("s", "running"), change("s", "not_running", { output: OUT }));
    const scales = [watched, stored].map((story) => scaleOf([...story.steps.values()], 999).kind);
    expect(scales).toEqual(["time", "order"]);
  });

  it("draws thousands of executions in one path an outcome, in few rows", () => {
    const events = Array.from({ length: 3000 }, (_, at) => [
      change("s", "running", { worker: String(at), at }),
      change("s", "not_running", { worker: String(at), output: OUT, at: at + 50 }),
    ]).flat();
    const story = tell(...events);
    const spans = story.steps.get("s")?.spans ?? [];
    const bars = laneBars(spans, scaleOf([...story.steps.values()], 0), 0);
    expect([bars.paths.map(([outcome]) => outcome), bars.height]).toEqual([["done"], 64]);
  });
});
