/** One run: its handler, its events as they come, and the story that they tell. */

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { getHandler, listRuns, type Problem } from "../api/client";
import { follow, type Connection } from "../api/stream";
import { isInternal, isQuestion, isStop, type Handler, type HandlerInFull, type RunEvent } from "../api/types";
import { toProblem } from "../hooks";
import { standingOf } from "../model/phase";
import { Story } from "../model/story";

export interface Run {
  handler: HandlerInFull | null;
  problem: Problem | null;
  events: RunEvent[];
  story: Story;
  /** Counts up when events were added. */
  version: number;
  connection: Connection;
  /** The handler's newer run, when this page shows an earlier one. */
  newerRun: string | null;
  refresh: () => void;
}

interface State {
  handler: HandlerInFull | null;
  problem: Problem | null;
  version: number;
  connection: Connection;
  newerRun: string | null;
}

const DRAW_MS = 80;
const POLL_MS = 3_000;
const MOVE_MS = 250;
const NEWEST = new URLSearchParams({ limit: "1" });
const NEW: State = { handler: null, problem: null, version: 0, connection: { state: "connecting" }, newerRun: null };

/** Whether a run waits for an event, of which lists tell in short. */
function waits({ awaits, questions }: Handler): boolean {
  return Boolean(awaits || questions?.length);
}

export function useRun(handlerId: string, runId: string | null): Run {
  const [state, setState] = useState<State>(NEW);
  const held = useRef<{ events: RunEvent[]; story: Story }>({ events: [], story: new Story() });
  const load = useRef<() => void>(() => {});

  useEffect(() => {
    const abort = new AbortController();
    const { signal } = abort;
    const events: RunEvent[] = [];
    const story = new Story();
    held.current = { events, story };
    setState(NEW);
    let following: string | null = null;
    let handler: HandlerInFull | null = null;
    let drawing: ReturnType<typeof setTimeout> | undefined;
    let moving: ReturnType<typeof setTimeout> | undefined;
    const patch = (part: Partial<State>): void => {
      if (!signal.aborted) setState((state) => ({ ...state, ...part }));
    };
    const draw = (): void => {
      drawing ??= setTimeout(() => {
        drawing = undefined;
        setState((state) => ({ ...state, version: state.version + 1 }));
      }, DRAW_MS);
    };
    const reload = (): void => {
      moving ??= setTimeout(() => {
        moving = undefined;
        void refresh();
      }, MOVE_MS);
    };
    const add = (batch: RunEvent[]): void => {
      for (const event of batch) {
        if (event.sequence <= story.last) continue;
        events.push(event);
        story.add(event);
      }
      draw();
      // Questions and ends change the handler; the stream says when.
      if (batch.some((event) => isQuestion(event) || isStop(event) || (isInternal(event) && event.type === "WorkflowIdleEvent"))) void refresh();
      // By an event a run that was queued, waited or was held says that it goes on.
      else if (handler?.status === "running" && standingOf(handler) !== "working") reload();
    };
    const onConnection = (connection: Connection): void => {
      patch({ connection });
      if (connection.state !== "ended") return;
      story.close();
      void refresh();
    };
    const show = (current: HandlerInFull): void => {
      if (JSON.stringify(current) !== JSON.stringify(handler)) patch({ handler: current });
      handler = current;
      patch({ problem: null });
    };
    const refresh = async (): Promise<void> => {
      try {
        const current = await getHandler(handlerId, runId ?? following, signal);
        show(current);
        if (following) return;
        following = current.run_id;
        const seen = { handlerId, runId: current.run_id, after: -1, signal };
        void follow({ ...seen, onEvents: add, onConnection });
      } catch (error) {
        if (!signal.aborted) patch({ problem: toProblem(error) });
      }
    };
    // The newest run in short: what a run started from may be large, and does not change.
    const poll = async (): Promise<void> => {
      if (handler === null) return refresh();
      const newest = await listRuns(handlerId, NEWEST, signal).then(({ runs }) => runs[0], () => undefined);
      const isNewest = newest?.run_id === following;
      if (newest && isNewest) {
        const { awaits: _awaits, questions: _questions, ...others } = newest;
        const changed = newest.updated_at !== handler.updated_at || newest.phase !== handler.phase;
        if (changed && waits(newest)) return refresh();
        show(waits(newest) ? { ...handler, ...others } : { ...handler, ...newest });
      } else if (!newest || handler.status === "running") return refresh();
      patch({ newerRun: newest && !isNewest ? newest.run_id : null });
    };
    load.current = () => void refresh();
    void refresh();
    const timer = setInterval(() => document.visibilityState === "visible" && void poll(), POLL_MS);
    return () => {
      abort.abort();
      clearInterval(timer);
      clearTimeout(drawing);
      clearTimeout(moving);
    };
  }, [handlerId, runId]);

  const refresh = useCallback(() => load.current(), []);
  return { ...state, ...held.current, refresh };
}
