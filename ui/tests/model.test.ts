import { describe, expect, it } from "vitest";
import type { AwaitedEvent, Handler, JsonObject, OpenQuestion, Representation } from "../src/api/types";
import { readAny, readNumber } from "../src/components/controls";
import { formatAgo, formatDuration, preview } from "../src/model/format";
import { layOut } from "../src/model/graph";
import { answerKinds, awaitedBeside, awaitedKind, sentenceOf } from "../src/model/questions";
import { rowsInSight } from "../src/model/rows";

const node = (id: string, ...types: string[]) => ({ id, label: id, node_type: types.length ? "event" : "step", event_types: types });
const GRAPH: Representation = {
  name: "G",
  description: null,
  nodes: [
    node("ask"),
    node("Begin", "Begin", "StartEvent"),
    node("NameAsked", "NameAsked", "InputRequiredEvent"),
    { id: "external_step", label: "external_step", node_type: "external" },
    node("AgeGiven", "AgeGiven", "HumanResponseEvent"),
    node("NameGiven", "NameGiven", "HumanResponseEvent"),
    node("Work", "Work"),
    node("End", "End", "StopEvent"),
  ],
  edges: [
    { source: "Begin", target: "ask", label: null },
    { source: "ask", target: "NameAsked", label: null },
    { source: "NameAsked", target: "external_step", label: null },
    { source: "external_step", target: "AgeGiven", label: null },
    { source: "external_step", target: "NameGiven", label: null },
    { source: "AgeGiven", target: "ask", label: null },
    { source: "NameGiven", target: "ask", label: null },
    { source: "ask", target: "End", label: null },
  ],
};

describe("a graph", () => {
  it("has a place for each node and a path for each edge, cycles and all", () => {
    const { nodes, edges, width, height } = layOut(GRAPH, "LR");
    expect([nodes.length, edges.length, edges.every((edge) => edge.path.startsWith("M"))]).toEqual([8, 8, true]);
    expect(nodes.every(({ x, y }) => x > 0 && y > 0 && x < width && y < height)).toBe(true);
  });

  it("passes over edges to nodes that are not there", () => {
    const graph = { ...GRAPH, edges: [{ source: "ask", target: "gone", label: null }] };
    expect(layOut(graph, "TB").edges).toEqual([]);
  });

  it("names the person of the external step", () => {
    expect(layOut(GRAPH, "LR").nodes.find((one) => one.id === "external_step")?.label).toBe("a person");
  });
});

const AWAITED: AwaitedEvent = {
  type: "HumanResponseEvent",
  qualified_name: "workflows.events.HumanResponseEvent",
  schema: null,
  requirements: {},
  steps: ["ask"],
  waiter_id: "one",
  question: null,
  due_at: null,
};

describe("the answers to a question", () => {
  const events = ["AgeGiven", "Begin", "End", "NameAsked", "NameGiven", "Waited", "Work"].map((title) => ({ title }));

  const typesOf = (asked: OpenQuestion | undefined, among = events) => answerKinds(asked, "NameAsked", among, GRAPH).map((kind) => kind.type);

  it("are guessed where the server names none: what people answer with, the nearest name first, and nothing between steps", () => {
    expect([typesOf(undefined), typesOf({ sequence: 0, awaits: [] })]).toEqual([
      ["NameGiven", "AgeGiven", "Waited"],
      ["NameGiven", "AgeGiven", "Waited"],
    ]);
  });

  it("may be any event where nothing else is there", () => {
    expect(typesOf(undefined, [{ title: "Work" }, { title: "Begin" }])).toEqual(["Work"]);
  });

  it("are those that the server names, with what they require filled in, but for secrets", () => {
    const schema = { title: "Permit", properties: { granted: {}, user: {}, note: { default: "" } }, required: ["granted", "user"] };
    const awaited = { ...AWAITED, type: "Permit", schema, requirements: { user: "ada", token: "**********" }, due_at: "2026-01-01T00:00:00Z" };
    expect(answerKinds({ sequence: 0, awaits: [awaited] }, "NameAsked", events, GRAPH)).toEqual([
      { type: "Permit", schema, initial: { user: "ada", note: "" }, open: ["granted"], dueAt: "2026-01-01T00:00:00Z" },
    ]);
  });

  it.each([
    ["the schema of the list of events", null, [{ title: "HumanResponseEvent", properties: { response: {} } }]],
    ["no schema", null, []],
    ["its own schema", { title: "HumanResponseEvent", properties: { response: {} } }, []],
  ])("begin with a response, for a plain answer with %s", (_which, schema, among) => {
    expect(awaitedKind({ ...AWAITED, schema }, among).initial).toEqual({ response: "" });
  });

  it("are beside what else the run waits for", () => {
    const other = { ...AWAITED, waiter_id: "other" };
    const awaits = { events: [AWAITED, other], timers: [], stuck_because: null };
    const handler = { status: "running", awaits, questions: [{ sequence: 1, awaits: [AWAITED] }] } as unknown as Handler;
    expect([awaitedBeside(handler), awaitedBeside({ ...handler, awaits: null })]).toEqual([[other], []]);
  });

  const question = (value: JsonObject) =>
    sentenceOf({ type: "Q", types: null, qualified_name: null, sequence: 0, at: null, value });

  it.each([
    [{ id: "x", question: "Why?" }, "Why?"],
    [{ whatever: "Why?" }, "Why?"],
    [{ a: "x", b: "y" }, "x"],
    [{ a: " ", secret: "**********", b: "y" }, "y"],
    [{ _data: { prefix: "Why?", a: "x" } }, "Why?"],
    [{ question: "x", prefix: "Why?" }, "Why?"],
    [{ number: 1 }, null],
  ])("are asked for with the sentence in %j", (value, sentence) => expect(question(value)).toBe(sentence));
});

describe("rows in sight", () => {
  const items = Array.from({ length: 10_000 }, (_, at) => ({ sequence: at * 2 }));

  it("are few of many", () => {
    const view = rowsInSight(items, new Map(), 30, 150_000, 300);
    expect([view.height, view.rows.length < 40, view.rows.some((row) => row.offset === 150_000)]).toEqual([300_000, true, true]);
  });

  it("make room for open ones", () => {
    const view = rowsInSight(items, new Map([[0, 100], [7, 50]]), 30, 0, 90);
    expect([view.height, view.rows[1]?.offset]).toEqual([300_100, 130]);
  });

  it("end with the list", () => {
    expect(rowsInSight(items.slice(0, 3), new Map(), 30, 5_000, 300).rows.length).toBe(3);
  });
});

describe("typed values", () => {
  it.each([["", undefined], [" 1.50 ", 1.5], ["1e3", 1000], ["x", "x"]])("the number in %j", (text, value) => {
    expect(readNumber(text)).toBe(value);
  });

  it.each([["[1]", [1]], ["plain", "plain"], ["true", true]])("the value in %j", (text, value) => {
    expect(readAny(text)).toEqual(value);
  });
});

describe("times for people", () => {
  it.each([[0.2, "200 µs"], [12, "12 ms"], [1500, "1.5 s"], [59_999, "59 s"], [61_000, "1 min 01 s"], [3_660_000, "1 h 01 min"], [90_000_000, "1 d 1 h"]])(
    "%i ms",
    (milliseconds, text) => expect(formatDuration(milliseconds)).toBe(text),
  );

  it("a moment ago", () => expect(formatAgo(0, 90_000)).toBe("1 min ago"));
  it("long values are cut", () => expect(preview("x".repeat(999)).length).toBe(241));
});
