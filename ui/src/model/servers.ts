/** What is told of the servers that share a store. */

import type { RunCounts, Server, ServerList } from "../api/types";

/** In the order in which a run goes through them. */
const PHASES = ["queued", "working", "waiting", "held"] as const;

/** A server as it was seen last, `at` by the page's own clock, in milliseconds. */
export interface Seen {
  server: Server & { id: number };
  at: number;
}

/** Whether servers share the store: one that has it for itself has no number. */
export function isShared({ servers }: ServerList): boolean {
  return servers.some(({ id }) => id !== null);
}

/** The servers of a list, and those of earlier ones that are no longer in it, in the order in which they joined. */
export function remember(before: ReadonlyMap<number, Seen>, { servers }: ServerList, at: number): Map<number, Seen> {
  const seen = new Map(before);
  for (const server of servers) if (server.id !== null) seen.set(server.id, { server: { ...server, id: server.id }, at });
  return new Map([...seen].sort(([one], [other]) => one - other));
}

export function total(runs: RunCounts): number {
  return Object.values(runs).reduce((sum, number) => sum + number, 0);
}

/** "3 working · 12 waiting", or nothing. */
export function runsOf(runs: RunCounts): string {
  return PHASES.filter((phase) => runs[phase])
    .map((phase) => `${runs[phase]!.toLocaleString("en")} ${phase}`)
    .join(" · ");
}

/** What a server does, in a word: what it says of itself, unless it has left, or has nothing left to do. */
export function stateOf({ state, runs }: Server, isGone: boolean): string {
  if (isGone) return "gone";
  if (state === "draining" && total(runs) === 0) return "drained";
  return state ?? "joining";
}

/** Seconds since a heartbeat, in whole ones, or in minutes. */
export function formatAge(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  return whole < 60 ? `${whole} s ago` : `${Math.floor(whole / 60)} min ago`;
}
