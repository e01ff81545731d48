/** Small things that every page is made of. */

import type { ComponentChildren } from "preact";
import type { Problem } from "../api/client";
import type { Handler } from "../api/types";
import { useNow } from "../hooks";
import { formatAgo, formatDuration, formatTime } from "../model/format";
import { standingOf } from "../model/phase";

export function StatusBadge({ handler }: { handler: Handler }) {
  const standing = standingOf(handler);
  return (
    <span class={`status ${standing}`}>
      <span class="dot" aria-hidden="true" />
      {standing}
    </span>
  );
}

export function Ago({ iso }: { iso: string }) {
  const now = useNow(10_000);
  return (
    <time dateTime={iso} title={formatTime(iso)}>
      {formatAgo(Date.parse(iso), now)}
    </time>
  );
}

/** How long a run took, or has taken so far. */
export function RunDuration({ handler, every = 1000 }: { handler: Handler; every?: number }) {
  const running = handler.status === "running";
  const now = useNow(running ? every : null);
  const end = handler.completed_at ?? (running ? null : handler.updated_at);
  return <span class="number">{formatDuration(Math.max(0, (end ? Date.parse(end) : now) - Date.parse(handler.started_at)))}</span>;
}

interface EmptyProps {
  title: string;
  children?: ComponentChildren;
}

/** What stands where there is nothing: what to do next. */
export function Empty({ title, children }: EmptyProps) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function ProblemNote({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="note bad" role="alert">
      <p>{problem.detail}</p>
      {retry && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <div class="loading" role="status">
      Loading {what}…
    </div>
  );
}

interface SectionProps {
  id: string;
  title: string;
  aside?: ComponentChildren;
  children: ComponentChildren;
}

export function Section({ id, title, aside, children }: SectionProps) {
  return (
    <section class={`panel panel-${id}`} aria-labelledby={`${id}-title`}>
      <header class="panel-head">
        <h2 id={`${id}-title`}>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}
