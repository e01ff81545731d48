/** Server-Sent Events from the chunks of a fetched body. */

import type { Envelope, RunEvent } from "./types";

export interface Frame {
  id: string | null;
  data: string;
}

/** Takes text as it comes and gives each frame once it is whole; comments are passed over. */
export class SseParser {
  private rest = "";

  push(text: string): Frame[] {
    // A CR at the end may be the first half of a line's end.
    const whole = this.rest + text;
    const held = whole.endsWith("\r") ? "\r" : "";
    const blocks = whole.slice(0, whole.length - held.length).replace(/\r\n?/g, "\n").split("\n\n");
    this.rest = (blocks.pop() ?? "") + held;
    return blocks.flatMap(parseBlock);
  }
}

function parseBlock(block: string): Frame[] {
  let id: string | null = null;
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon === 0) continue;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "id") id = value;
    if (field === "data") data.push(value);
  }
  return data.length ? [{ id, data: data.join("\n") }] : [];
}

/** The event of a frame. */
export function toEvent(id: string | null, data: string): RunEvent {
  const { emitted_at, ...event } = JSON.parse(data) as Envelope & { emitted_at?: string | null };
  return { ...event, sequence: Number(id), at: emitted_at ? parseTime(emitted_at) : null };
}

/** ISO 8601 in milliseconds, with the microseconds that `Date` would drop. */
function parseTime(iso: string): number {
  const [, seconds = iso, fraction = "", zone = ""] = /^(.{19})(\.\d+)?(.*)$/.exec(iso) ?? [];
  return Date.parse(seconds + zone) + Number(`0${fraction}`) * 1000;
}
