/** Server-Sent Events from the chunks of a fetched body. */

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
