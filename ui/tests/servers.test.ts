import { describe, expect, it } from "vitest";
import type { Server, ServerList } from "../src/api/types";
import { formatAge, isShared, remember, runsOf, stateOf } from "../src/model/servers";

function server(fields: Partial<Server>): Server {
  return {
    id: 7,
    address: "http://127.0.0.1:8000",
    version: "0.9.0",
    state: "serving",
    heartbeat_age: 0.4,
    workflows: [],
    runs: {},
    is_asked: false,
    ...fields,
  };
}

function list(...ids: (number | null)[]): ServerList {
  return { servers: ids.map((id) => server({ id })), unowned: {} };
}

describe("a store", () => {
  it("is shared where its servers have numbers", () => {
    expect([list(7), list(null), list()].map(isShared)).toEqual([true, false, false]);
  });
});

describe("servers that were seen", () => {
  it("stay when they have left the list, in the order in which they joined", () => {
    const first = remember(new Map(), list(7, 9), 1_000);
    const second = remember(first, list(8, 9), 3_000);
    expect([...second].map(([id, { at }]) => [id, at])).toEqual([
      [7, 1_000],
      [8, 3_000],
      [9, 3_000],
    ]);
  });
});

describe("the runs of a server", () => {
  it("are told by phase, in the order of a run's life", () => {
    expect([{ waiting: 4_000, working: 3 }, { queued: 0, held: 1 }, {}].map(runsOf)).toEqual([
      "3 working · 4,000 waiting",
      "1 held",
      "",
    ]);
  });
});

describe("what a server does", () => {
  it.each([
    [{}, false, "serving"],
    [{ state: null }, false, "joining"],
    [{ state: "hibernating" }, false, "hibernating"],
    [{ state: "draining", runs: { working: 1 } }, false, "draining"],
    [{ state: "draining" }, false, "drained"],
    [{ state: "draining" }, true, "gone"],
  ] as [Partial<Server>, boolean, string][])("is told of %j, gone: %j", (fields, isGone, state) => {
    expect(stateOf(server(fields), isGone)).toBe(state);
  });
});

describe("the age of a heartbeat", () => {
  it("is told in whole seconds, and in minutes", () => {
    expect([-0.2, 0.4, 59.9, 60, 200].map(formatAge)).toEqual(["0 s ago", "0 s ago", "59 s ago", "1 min ago", "3 min ago"]);
  });
});
