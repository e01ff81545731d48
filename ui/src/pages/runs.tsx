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
const FILTERS: Record<string, string> = {
  "": "all",
  running: "running",
  waiting: "needs an answer",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelled",
};

export function RunsPage({ query }: { query: URLSearchParams }) {
  useTitle("Runs");
  const status = query.get("status") ?? "";
  const workflow = query.get("workflow") ?? "";
  const cursor = query.get("cursor") ?? "";
  const search = new URLSearchParams({ limit: String(PAGE) });
  if (status === "waiting") search.set("waiting", "true");
  else if (status) search.set("status", status);
  if (workflow) search.set("workflow_name", workflow);
  if (cursor) search.set("cursor", cursor);
  const page = useResource(`runs ${search}`, (signal) => listHandlers(search, signal), POLL_MS);
  const workflows = useResource("workflows", listWorkflows);
  const handlers = page.data?.handlers;
  const names = [...new Set([...(workflows.data ?? []), ...(workflow ? [workflow] : [])])];
  return (
    <>
      <header class="page-head">
        <h1>Runs</h1>
        <CurlButton request={() => calls.handlers(search.toString())} what="List these runs" />
      </header>
      <div class="row filters">
        <div class="row chips" role="group" aria-label="Status">
          {Object.keys(FILTERS).map((filter) => (
            <button
              key={filter}
              type="button"
              class="chip"
              aria-pressed={filter === status}
              onClick={() => navigate(link(["runs"], { status: filter, workflow }))}
            >
              {FILTERS[filter]}
            </button>
          ))}
        </div>
        <select
          class="fit"
          aria-label="Workflow"
          value={workflow}
          onChange={(event) => navigate(link(["runs"], { status, workflow: event.currentTarget.value }))}
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
      {handlers?.length === 0 && <NoRuns filtered={Boolean(status || workflow || cursor)} />}
      {handlers && handlers.length > 0 && <RunTable handlers={handlers} of="all" />}
      <nav class="row pager" aria-label="Pages">
        {cursor && (
          <>
            <a class="button" href={link(["runs"], { status, workflow })}>
              Newest
            </a>
            <button type="button" class="button" onClick={() => history.back()}>
              <Icon name="left" /> Back
            </button>
          </>
        )}
        {page.data?.next_cursor && (
          <a class="button" href={link(["runs"], { status, workflow, cursor: page.data.next_cursor })}>
            Older <Icon name="right" />
          </a>
        )}
      </nav>
    </>
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
