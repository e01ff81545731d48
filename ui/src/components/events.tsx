/** The event log: as many events as there are, of which only those in sight are drawn. */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { fieldsOf, isInternal, isQuestion, isStop, type RunEvent } from "../api/types";
import { formatClock, formatTime, preview } from "../model/format";
import { rowsInSight } from "../model/rows";
import { CopyButton } from "./copy";
import { Icon } from "./icon";
import { JsonView } from "./json";
import { Empty } from "./parts";

interface EventLogProps {
  events: RunEvent[];
  /** Counts up when events were added: the array is grown in place. */
  version: number;
  live: boolean;
}

const ROW = 34;

export function EventLog({ events, version, live }: EventLogProps) {
  const [internal, setInternal] = useState(false);
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [search, setSearch] = useState("");
  const types = useMemo(() => countTypes(events, internal), [version, events, internal]);
  const shown = useMemo(() => {
    const wanted = search.toLowerCase();
    return events.filter(
      (event) =>
        (internal || !isInternal(event)) &&
        !hidden.has(event.type) &&
        (!wanted || `${event.type} ${JSON.stringify(event.value)}`.toLowerCase().includes(wanted)),
    );
  }, [version, events, internal, hidden, search]);
  const toggle = (type: string): void => {
    const next = new Set(hidden);
    if (!next.delete(type)) next.add(type);
    setHidden(next);
  };
  return (
    <div class="event-log">
      <div class="row log-tools">
        <input
          type="search"
          aria-label="Search in events"
          placeholder="Search in events"
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
        <label class="check">
          <input type="checkbox" checked={internal} onChange={() => setInternal(!internal)} />
          internal events
        </label>
        <CopyButton
          compact
          label="Copy the shown events as JSON lines"
          text={() => shown.map(({ at: _at, ...event }) => JSON.stringify(event)).join("\n")}
        />
      </div>
      {types.length > 1 && (
        <div class="row chips" role="group" aria-label="Types of events">
          {types.map(([type, times]) => (
            <button key={type} type="button" class="chip" aria-pressed={!hidden.has(type)} onClick={() => toggle(type)}>
              {type} <span class="number">{times.toLocaleString("en")}</span>
            </button>
          ))}
        </div>
      )}
      {shown.length ? <Rows events={shown} live={live} /> : <NoEvents any={events.length > 0} live={live} />}
    </div>
  );
}

function NoEvents({ any, live }: { any: boolean; live: boolean }) {
  if (!any && live) return <Empty title="No events yet. They appear here as the run emits them." />;
  if (!any) return <Empty title="The run has emitted no events." />;
  return <Empty title="No event is shown: clear the search, or turn types or internal events on." />;
}

function Rows({ events, live }: { events: RunEvent[]; live: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(480);
  const [following, setFollowing] = useState(live);
  const [open, setOpen] = useState<ReadonlyMap<number, number>>(new Map());
  const view = rowsInSight(events, open, ROW, top, height);

  useLayoutEffect(() => {
    if (following && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [following, events.length]);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const onScroll = (): void => {
    const element = box.current;
    if (!element) return;
    setTop(element.scrollTop);
    setFollowing(live && element.scrollHeight - element.scrollTop - element.clientHeight < ROW);
  };
  const setRow = (sequence: number, extra: number | null): void => {
    if (extra !== null && open.get(sequence) === extra) return;
    const next = new Map(open);
    if (extra === null) next.delete(sequence);
    else next.set(sequence, extra);
    setOpen(next);
  };
  return (
    <div class="log-frame">
      <div ref={box} class="log-box" onScroll={onScroll} tabIndex={0} role="region" aria-label={`Events, ${events.length} shown`}>
        <ol style={{ height: `${view.height}px` }}>
          {view.rows.map(({ item, offset, index }) => (
            <li key={item.sequence} style={{ top: `${offset}px` }} aria-setsize={events.length} aria-posinset={index + 1}>
              <EventRow event={item} open={open.has(item.sequence)} onResize={(extra) => setRow(item.sequence, extra)} />
            </li>
          ))}
        </ol>
      </div>
      {live && !following && (
        <button type="button" class="button follow" onClick={() => setFollowing(true)}>
          <Icon name="down" /> Follow
        </button>
      )}
    </div>
  );
}

interface EventRowProps {
  event: RunEvent;
  open: boolean;
  onResize: (extra: number | null) => void;
}

function EventRow({ event, open, onResize }: EventRowProps) {
  const body = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = body.current;
    if (!open || !element) return;
    const observer = new ResizeObserver(() => onResize(element.offsetHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, [open, onResize]);
  return (
    <>
      <button type="button" class="event-row" aria-expanded={open} onClick={() => onResize(open ? null : 0)}>
        <Icon name="right" />
        <span class="number sequence">{event.sequence}</span>
        {event.at !== null && (
          <span class="number clock" title={formatTime(event.at)}>
            {formatClock(event.at)}
          </span>
        )}
        <span class={`type ${toneOf(event)}`}>{event.type}</span>
        <span class="preview">{preview(fieldsOf(event.value))}</span>
      </button>
      {open && (
        <div ref={body} class="event-body">
          <div class="row between">
            <span class="muted">
              {event.qualified_name ?? event.type}
              {event.types?.length ? ` · ${event.types.join(" · ")}` : ""}
              {event.at !== null && ` · ${formatTime(event.at)}`}
            </span>
            <CopyButton compact label={`Copy event ${event.sequence}`} text={() => JSON.stringify(fieldsOf(event.value), null, 2)} />
          </div>
          <JsonView value={fieldsOf(event.value)} label={`Fields of event ${event.sequence}`} />
        </div>
      )}
    </>
  );
}

function toneOf(event: RunEvent): string {
  if (isInternal(event)) return "internal";
  if (isQuestion(event)) return "question";
  if (event.type === "WorkflowFailedEvent" || event.type === "StepFailedEvent" || event.type === "WorkflowTimedOutEvent") return "failed";
  return isStop(event) ? "stop" : "";
}

function countTypes(events: RunEvent[], internal: boolean): [string, number][] {
  const counts = new Map<string, number>();
  for (const event of events) {
    if (internal || !isInternal(event)) counts.set(event.type, (counts.get(event.type) ?? 0) + 1);
  }
  return [...counts];
}
