import { describe, expect, it } from "vitest";
import { SseParser, toEvent } from "../src/api/sse";

const frames = (text: string, size: number) => {
  const parser = new SseParser();
  const parts = text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
  return parts.flatMap((part) => parser.push(part));
};

describe("SseParser", () => {
  const text = ': heartbeat\n\nid: 0\ndata: {"a":1}\n\nid: 1\ndata: {"b":"x: y"}\n\n';
  const expected = [
    { id: "0", data: '{"a":1}' },
    { id: "1", data: '{"b":"x: y"}' },
  ];

  it.each([1, 2, 7, 1000])("gives whole frames from chunks of %i characters", (size) => {
    expect(frames(text, size)).toEqual(expected);
  });

  it.each([1, 3, 1000])("takes line ends of CR LF, in chunks of %i", (size) => {
    expect(frames(text.replaceAll("\n", "\r\n"), size)).toEqual(expected);
  });

  it("joins the lines of one frame's data", () => {
    expect(frames("data: a\ndata: b\n\n", 100)).toEqual([{ id: null, data: "a\nb" }]);
  });

  it("holds back a frame that has not ended", () => {
    expect(frames("id: 3\ndata: {}\n", 100)).toEqual([]);
  });
});

describe("an event of a stream", () => {
  const envelope = { value: {}, type: "T", types: null, qualified_name: null };

  it.each([
    ["2026-11-25T13:31:07.214633+00:00", Date.UTC(2026, 10, 25, 13, 31, 7) + 214.633],
    ["2026-11-25T13:31:07+00:00", Date.UTC(2026, 10, 25, 13, 31, 7)],
    [null, null],
  ])("that was emitted at %s knows it to the microsecond", (emitted_at, at) => {
    expect(toEvent("7", JSON.stringify({ ...envelope, emitted_at }))).toEqual({ ...envelope, sequence: 7, at });
  });
});
