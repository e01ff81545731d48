/** A run's events, followed to their end over any number of connections. */

import { Problem, toProblem } from "./client";
import { ask } from "./request";
import { SseParser, toEvent } from "./sse";
import type { Json, RunEvent } from "./types";

export type Connection =
  | { state: "connecting" }
  | { state: "live" }
  | { state: "reconnecting"; attempt: number; retryAt: number }
  | { state: "ended" }
  | { state: "refused"; detail: string };

export interface Following {
  handlerId: string;
  runId: string;
  after: number;
  signal: AbortSignal;
  onEvents: (events: RunEvent[]) => void;
  onConnection: (connection: Connection) => void;
}

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 8_000;

/** Follows a run until it has ended, the server refuses, or the signal aborts. */
export async function follow(run: Following): Promise<void> {
  let after = run.after;
  let attempt = 0;
  while (!run.signal.aborted) {
    try {
      const before = after;
      const ended = await readOnce(run, after, (last) => {
        after = last;
        attempt = 0;
      });
      if (ended) return run.onConnection({ state: "ended" });
      // A stream that closed with nothing new is not asked again at once.
      if (after > before) continue;
    } catch (error) {
      if (run.signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500) {
        return run.onConnection({ state: "refused", detail: error.detail });
      }
    }
    const wait = Math.min(FIRST_RETRY_MS * 2 ** attempt, LAST_RETRY_MS);
    attempt += 1;
    run.onConnection({ state: "reconnecting", attempt, retryAt: Date.now() + wait });
    await pause(wait, run.signal);
  }
}

/** Reads one connection; true when the run has ended and nothing is left. */
async function readOnce(run: Following, after: number, onProgress: (last: number) => void): Promise<boolean> {
  const query = new URLSearchParams({
    include_internal: "true",
    include_emitted_at: "true",
    after_sequence: String(after),
    run_id: run.runId,
  });
  const path = `events/${encodeURIComponent(run.handlerId)}?${query.toString()}`;
  const response = await ask(path, { signal: run.signal, headers: { Accept: "text/event-stream" } });
  if (response.status === 204) return true;
  if (!response.ok || !response.body) {
    throw toProblem(response, (await response.json().catch(() => null)) as Json);
  }
  run.onConnection({ state: "live" });
  const parser = new SseParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return false;
    const events = parser.push(value).map((frame) => toEvent(frame.id, frame.data));
    const last = events.at(-1);
    if (!last) continue;
    run.onEvents(events);
    onProgress(last.sequence);
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    window.addEventListener("online", end);
    signal.addEventListener("abort", end);
  });
}

/** Reads one stored event of a run: the question that a handler waits with. */
export async function readEvent(handlerId: string, sequence: number, signal: AbortSignal): Promise<RunEvent | null> {
  const found = new AbortController();
  signal.addEventListener("abort", () => found.abort());
  let event: RunEvent | null = null;
  const path = `events/${encodeURIComponent(handlerId)}?after_sequence=${sequence - 1}`;
  const response = await ask(path, { signal: found.signal });
  if (response.status !== 200 || !response.body) return null;
  const parser = new SseParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  while (!event) {
    const { value, done } = await reader.read();
    if (done) break;
    const frame = parser.push(value)[0];
    if (frame) event = toEvent(frame.id, frame.data);
  }
  found.abort();
  return event?.sequence === sequence ? event : null;
}
