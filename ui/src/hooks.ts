/** What pages share: loading, polling, the time. */

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { Problem } from "./api/client";
import { serverNow } from "./api/request";

const FORBIDDEN = 403;

export interface Resource<T> {
  data: T | null;
  problem: Problem | null;
  reload: () => void;
}

export function toProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, "", error instanceof Error ? error.message : String(error), []);
}

/** Loads when `key` changes, and again each `every` milliseconds while the page is seen. */
export function useResource<T>(key: string, load: (signal: AbortSignal) => Promise<T>, every?: number): Resource<T> {
  const [state, setState] = useState<{ key: string; data: T | null; problem: Problem | null }>({
    key,
    data: null,
    problem: null,
  });
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let text = "";
    const run = async (): Promise<void> => {
      try {
        const data = await latest.current(abort.signal);
        const now = every ? JSON.stringify(data) : "";
        if (!every || now !== text) setState({ key, data, problem: null });
        else setState((state) => (state.problem ? { ...state, problem: null } : state));
        text = now;
      } catch (error) {
        if (abort.signal.aborted) return;
        const problem = toProblem(error);
        setState((state) => ({ key, data: state.key === key ? state.data : null, problem }));
        if (problem.status === FORBIDDEN) return; // and it stays so
      }
      if (every && !abort.signal.aborted) timer = setTimeout(() => void tick(), every);
    };
    const tick = async (): Promise<void> => {
      if (document.visibilityState === "visible") return run();
      document.addEventListener("visibilitychange", () => void run(), { once: true, signal: abort.signal });
    };
    void run();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [key, every, turn]);
  const reload = useCallback(() => setTurn((turn) => turn + 1), []);
  const fits = state.key === key;
  return { data: fits ? state.data : null, problem: fits ? state.problem : null, reload };
}

/** The time at the server, as it passes; it stands still where `every` is null. */
export function useNow(every: number | null): number {
  const [now, setNow] = useState(serverNow);
  useEffect(() => {
    setNow(serverNow());
    if (every === null) return;
    const timer = setInterval(() => setNow(serverNow()), every);
    return () => clearInterval(timer);
  }, [every]);
  return now;
}

/** The width of an element, as it changes. */
export function useWidth(element: { current: HTMLElement | null }): number {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const observed = element.current;
    if (!observed) return;
    const update = (): void => setWidth(observed.clientWidth);
    const observer = new ResizeObserver(update);
    update();
    observer.observe(observed);
    return () => observer.disconnect();
  }, [element]);
  return width;
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = `${title} · Workflows`;
  }, [title]);
}
