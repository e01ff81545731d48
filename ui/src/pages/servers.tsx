/** The servers that share the store, as an administrator sees them. */

import { useRef, useState } from "preact/hooks";
import { call, calls, listServers } from "../api/client";
import { href } from "../api/request";
import type { RunCounts, ServerList } from "../api/types";
import { Confirm } from "../components/confirm";
import { CurlButton } from "../components/copy";
import { Empty, Loading, ProblemNote } from "../components/parts";
import { toast } from "../components/toast";
import { useNow, useResource, useTitle } from "../hooks";
import { count } from "../model/format";
import { formatAge, isShared, remember, runsOf, stateOf, total, type Seen } from "../model/servers";
import { link } from "../router";

const POLL_MS = 2_000;
const TICK_MS = 1_000;
/** As many workflows as are named at once; more unfold. */
const NAMED = 3;

export function ServersPage() {
  useTitle("Servers");
  const { data, problem, reload } = useResource("servers", listServers, POLL_MS);
  const isForbidden = problem?.status === 403;
  return (
    <>
      <header class="page-head">
        <h1>Servers</h1>
        {data && <CurlButton request={calls.servers} what="List the servers" />}
      </header>
      {isForbidden && (
        <Empty title="Only an administrator sees the servers.">
          <p>{problem.detail}</p>
        </Empty>
      )}
      {problem && !isForbidden && <ProblemNote problem={problem} retry={reload} />}
      {!data && !problem && <Loading what="the servers" />}
      {data && (isShared(data) ? <Members list={data} reload={reload} /> : <Alone />)}
    </>
  );
}

function Alone() {
  return (
    <Empty title="One server serves all runs: this one has its store for itself.">
      <p>
        Servers that are started with <code>--replicas</code> share a Postgres; see <code>docs/replicas.md</code>, and{" "}
        <a href={href("docs#/servers")}>servers in the API pages</a>.
      </p>
    </Empty>
  );
}

function Members({ list, reload }: { list: ServerList; reload: () => void }) {
  const seen = useRef<{ list: ServerList | null; servers: Map<number, Seen> }>({ list: null, servers: new Map() });
  if (seen.current.list !== list) seen.current = { list, servers: remember(seen.current.servers, list, performance.now()) };
  const [asking, setAsking] = useState<Seen["server"] | null>(null);
  // What was drained says so itself a moment later.
  const [drained, setDrained] = useState<ReadonlySet<number>>(new Set());
  useNow(TICK_MS); // heartbeats grow older
  const present = new Set(list.servers.map(({ id }) => id));
  const rows = [...seen.current.servers.values()].map(({ server, at }) => ({
    server: drained.has(server.id) ? { ...server, state: "draining" } : server,
    at,
    isGone: !present.has(server.id),
  }));
  const serving = rows.filter(({ server, isGone }) => !isGone && server.state === "serving");
  const drain = async (id: number): Promise<void> => {
    await call(calls.drain(id));
    setDrained((before) => new Set(before).add(id));
    toast(`Server ${id} drains: it takes no more runs.`);
    reload();
  };
  return (
    <>
      {serving.length < 2 && (
        <p class="note wait">
          {serving.length === 1 ? "One server takes runs, and there is no spare" : "No server takes runs"}: start another one.
        </p>
      )}
      <table class="servers">
        <thead>
          <tr>
            <th scope="col">Server</th>
            <th scope="col">State</th>
            <th scope="col">Heartbeat</th>
            <th scope="col">Version</th>
            <th scope="col">Runs</th>
            <th scope="col">Workflows</th>
            <th scope="col">
              <span class="visually-hidden">Action</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <Row key={row.server.id} {...row} onDrain={() => setAsking(row.server)} />
          ))}
        </tbody>
      </table>
      {total(list.unowned) > 0 && <p class="muted">{unownedText(list.unowned)}</p>}
      {asking && (
        <Confirm
          title={`Drain server ${asking.id}?`}
          action="Drain"
          request={calls.drain(asking.id)}
          onConfirm={() => drain(asking.id)}
          onClose={() => setAsking(null)}
        >
          <p>
            It takes no runs until it is started again. Queued and waiting runs go on at other servers at once. Runs at work
            {asking.runs.working ? ` (${asking.runs.working.toLocaleString("en")})` : ""} go on there until you stop it, and then
            elsewhere. Clients that read from it are sent to other servers.
          </p>
          {serving.every(({ server }) => server.id === asking.id) && (
            <p class="note wait">No other server takes runs: new ones are refused, and what it gives up stands still until another one starts.</p>
          )}
        </Confirm>
      )}
    </>
  );
}

interface RowProps extends Seen {
  isGone: boolean;
  onDrain: () => void;
}

/** The colours of what servers do. */
const COLOURS: Record<string, string> = { serving: "completed", draining: "waiting", gone: "failed" };

function Row({ server, at, isGone, onDrain }: RowProps) {
  const state = stateOf(server, isGone);
  return (
    <tr>
      <td class="server-cell">
        <b class="id">{server.id}</b> {server.is_asked && <span class="badge">answers you</span>}
        {server.address && <div class="id muted">{server.address}</div>}
      </td>
      <td class="state-cell">
        <span class={`status ${COLOURS[state] ?? ""}`}>
          <span class="dot" aria-hidden="true" />
          {state}
        </span>
      </td>
      <td class="number heartbeat-cell" data-label="heartbeat">
        {server.heartbeat_age === null ? "–" : formatAge(server.heartbeat_age + (performance.now() - at) / 1_000)}
      </td>
      <td class="version-cell" data-label="version">
        {server.version ?? "–"}
      </td>
      <td class="number runs-cell">{total(server.runs) === 0 ? "no runs" : isGone ? "runs go on elsewhere" : runsOf(server.runs)}</td>
      <td class="workflows-cell">
        <Workflows names={server.workflows} />
      </td>
      <td class="action-cell">
        {(state === "serving" || state === "joining") && (
          <button type="button" class="button small" aria-label={`Drain server ${server.id}`} onClick={onDrain}>
            Drain
          </button>
        )}
        {state === "drained" && <span class="muted">can be stopped</span>}
      </td>
    </tr>
  );
}

function Workflows({ names }: { names: string[] }) {
  const links = names.map((name) => (
    <li key={name}>
      <a href={link(["workflows", name])}>{name}</a>
    </li>
  ));
  if (names.length <= NAMED) return <ul class="names">{links}</ul>;
  return (
    <details>
      <summary>{count(names.length, "workflow")}</summary>
      <ul class="names">{links}</ul>
    </details>
  );
}

function unownedText({ waiting, ...others }: RunCounts): string {
  const parts = [waiting ? `${count(waiting, "waiting run")} (those need none)` : "", runsOf(others)].filter(Boolean);
  return `At no server: ${parts.join(", ")}.`;
}
