import { describe, expect, it } from "vitest";
import type { Handler } from "../src/api/types";
import { deadEndOf, holdOf, needsAnswer, outcomeOf, placeOf, riskOf, standingOf } from "../src/model/phase";

const QUESTIONS = [{ sequence: 3 }];

function handler(fields: Partial<Handler>): Handler {
  const at = "2026-11-25T13:31:07+00:00";
  return {
    handler_id: "h",
    workflow_name: "w",
    run_id: "r",
    status: "running",
    started_at: at,
    updated_at: at,
    completed_at: null,
    error: null,
    result: null,
    ...fields,
  };
}

describe("a dead end", () => {
  const awaits = { events: [], timers: [], stuck_because: "It waits for nothing." };

  it("is said of a run that nothing makes go on, and that has not ended", () => {
    const told = [{ awaits }, { awaits: null }, {}, { awaits, status: "cancelled" as const }];
    expect(told.map((fields) => deadEndOf(handler(fields)))).toEqual(["It waits for nothing.", null, null, null]);
  });
});

describe("where a run stands", () => {
  it.each(["queued", "working", "waiting", "held"] as const)("is its phase, %s, while it has not ended", (phase) => {
    expect(standingOf(handler({ phase, questions: QUESTIONS }))).toBe(phase);
  });

  it.each(["completed", "failed", "cancelled"] as const)("is its status, %s, when it has ended", (status) => {
    expect(standingOf(handler({ status, phase: "ended" }))).toBe(status);
  });

  it("is told by its questions where the server tells no phase", () => {
    expect([{}, { questions: [] }, { questions: QUESTIONS }].map((fields) => standingOf(handler(fields)))).toEqual([
      "working",
      "working",
      "waiting",
    ]);
  });
});

describe("an answer", () => {
  it.each([
    [{ phase: "waiting", questions: QUESTIONS }, true],
    [{ phase: "waiting", questions: [] }, false],
    [{ phase: "ended", status: "cancelled", questions: QUESTIONS }, false],
  ] as [Partial<Handler>, boolean][])("is needed by %j: %j", (fields, needed) => {
    expect(needsAnswer(handler(fields))).toBe(needed);
  });
});

describe("why a run is held", () => {
  it.each([
    [{ phase: "held", held_because: "the workflow is not served" }, "The workflow is not served."],
    [{ phase: "held", held_because: "It is not served." }, "It is not served."],
    [{ phase: "held", held_because: null }, "The server gave no reason."],
    [{ phase: "working", held_because: null }, null],
    [{ phase: "ended", status: "failed", held_because: "It was not served." }, null],
  ] as [Partial<Handler>, string | null][])("of %j is %j", (fields, reason) => {
    expect(holdOf(handler(fields))).toBe(reason);
  });
});

describe("why a run cannot be resumed", () => {
  it.each([
    [{ resumable: false, not_resumable_because: "Its state holds a lock." }, "Its state holds a lock."],
    [{ resumable: false }, "The server gave no reason."],
    [{ resumable: true, not_resumable_because: null }, null],
    [{}, null],
    [{ resumable: false, not_resumable_because: "Its state holds a lock.", status: "completed", phase: "ended" }, null],
  ] as [Partial<Handler>, string | null][])("of %j is %j", (fields, reason) => {
    expect(riskOf(handler(fields))).toBe(reason);
  });
});

const failure = {
  type: "KeyError",
  qualified_name: "builtins.KeyError",
  message: "",
  step: "fail",
  attempts: 1,
  remedy: null,
};

describe("where a run failed", () => {
  it.each([
    [{}, "KeyError in the step fail."],
    [{ attempts: 3 }, "KeyError in the step fail after 3 attempts."],
    [{ attempts: null, step: null }, "KeyError, raised by no step."],
    [{ remedy: "Serve with --loop asyncio." }, "KeyError in the step fail. Serve with --loop asyncio."],
  ])("of %j is %j", (fields, sentence) => {
    expect(placeOf({ ...failure, ...fields })).toBe(sentence);
  });
});

describe("the outcome in a list", () => {
  const result = { type: "StopEvent", types: null, qualified_name: null, value: { result: "Hello" } };

  it.each([
    [{ status: "completed", phase: "ended", result }, '"Hello"'],
    [{ status: "failed", phase: "ended", error: "It broke" }, "It broke"],
    [{ status: "failed", phase: "ended", error: "", failure }, "KeyError"],
    [{ status: "failed", phase: "ended", error: null }, "The server gave no reason."],
    [{ phase: "held", held_because: "It is not served." }, "It is not served."],
    [{ phase: "waiting", resumable: false, not_resumable_because: "A lock." }, "Cannot be resumed: A lock."],
    [{ phase: "working" }, ""],
  ] as [Partial<Handler>, string][])("of %j is %j", (fields, outcome) => {
    expect(outcomeOf(handler(fields))).toBe(outcome);
  });
});
