/** The runs of all workflows, a page of them at a time, as they change. */

import { calls, listHandlers, listWorkflows } from "../api/client";
import { CurlButton } from "../components/copy";
import { Icon } from "../components/icon";
import { Empty, Loading, ProblemNote } from "../components/parts";
import { RunTable } from "../components/run-table";
import { useResource, useTitle } from "../hooks";
import { link, navigate } from "../router";

const PAGE = 50;
const POLL_MS = 2_000;
const STATUSES: Record<string, string> = {
  "": "all",
  running: "running",
  waiting: "needs an answer",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelled",
};
/** Where the runs stand that have not ended. */
const PHASES: Record<string, string> = { queued: "queued", working: "working", waiting: "waiting", held: "held" };

export function RunsPage({ query }: { query: URLSearchParams }) {
  useTitle("Runs");
  const status = query.get("status") ?? "";
  const phase = query.get("phase") ?? "";
  const workflow = query.get("workflow") ?? "";
  const cursor = query.get("cursor") ?? "";
  const search = new URLSearchParams({ limit: String(PAGE) });
  if (status === "waiting") search.set("waiting", "true");
  else if (status) search.set("status", status);
  if (phase) search.set("phase", phase);
  if (workflow) search.set("workflow_name", workflow);
  if (cursor) search.set("cursor", cursor);
  const page = useResource(`runs ${search}`, (signal) => listHandlers(search, signal), POLL_MS);
  const workflows = useResource("workflows", listWorkflows);
  const handlers = page.data?.handlers;
  // A phase says more than a status, so that choosing one lets go of the other.
  const show = (filters: Record<string, string>): void => navigate(link(["runs"], { status: "", phase: "", workflow, ...filters }));
  const names = [...new Set([...(workflows.data ?? []), ...(workflow ? [workflow] : [])])];
  return (
    <>
      <header class="page-head">
        <h1>Runs</h1>
        <CurlButton request={() => calls.handlers(search.toString())} what="List these runs" />
      </header>
      <div class="row filters">
        <div class="filter-groups">
          <Filter label="Status" options={STATUSES} chosen={status || (phase ? null : "")} choose={(status) => show({ status })} />
          <Filter label="Phase" options={PHASES} chosen={phase} choose={(chosen) => show({ phase: chosen === phase ? "" : chosen })} />
        </div>
        <select
          class="fit"
          aria-label="Workflow"
          value={workflow}
          onChange={(event) => show({ status, phase, workflow: event.currentTarget.value })}
        >
          <option value="">every workflow</option>
          {names.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      </div>
      {page.problem && <ProblemNote problem={page.problem} retry={page.reload} />}
      {!page.data && !page.problem && <Loading what="runs" />}
      {handlers?.length === 0 && <NoRuns filtered={Boolean(status || phase || workflow || cursor)} />}
      {handlers && handlers.length > 0 && <RunTable handlers={handlers} of="all" />}
      <nav class="row pager" aria-label="Pages">
        {cursor && (
          <>
            <a class="button" href={link(["runs"], { status, phase, workflow })}>
              Newest
            </a>
            <button type="button" class="button" onClick={() => history.back()}>
              <Icon name="left" /> Back
            </button>
          </>
        )}
        {page.data?.next_cursor && (
          <a class="button" href={link(["runs"], { status, phase, workflow, cursor: page.data.next_cursor })}>
            Older <Icon name="right" />
          </a>
        )}
      </nav>
    </>
  );
}

interface FilterProps {
  label: string;
  options: Record<string, string>;
  chosen: string | null;
  choose: (option: string) => void;
}

function Filter({ label, options, chosen, choose }: FilterProps) {
  return (
    <div class="row chips" role="group" aria-labelledby={`filter-${label}`}>
      <span id={`filter-${label}`} class="filter-label">
        {label}
      </span>
      {Object.entries(options).map(([option, text]) => (
        <button key={option} type="button" class="chip" aria-pressed={option === chosen} onClick={() => choose(option)}>
          {text}
        </button>
      ))}
    </div>
  );
}

function NoRuns({ filtered }: { filtered: boolean }) {
  if (filtered) {
    return (
      <Empty title="No run is like that.">
        <p>
          <a href={link(["runs"])}>Show all runs</a>
        </p>
      </Empty>
    );
  }
  return (
    <Empty title="Nothing has run yet.">
      <p>
        <a class="button primary" href={link(["workflows"])}>
          Choose a workflow to run
        </a>
      </p>
    </Empty>
  );
}
