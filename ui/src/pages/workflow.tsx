/** One workflow: its graph, and the form that starts a run. */

import { useState } from "preact/hooks";
import { call, calls, getGraph, getHandler, getSchema, listHandlers, type Call } from "../api/client";
import { fieldsOf, type Handler, type JsonObject } from "../api/types";
import { SchemaForm } from "../components/form";
import { Graph } from "../components/graph";
import { Empty, Loading, ProblemNote, Section } from "../components/parts";
import { RunTable } from "../components/run-table";
import { useResource, useTitle } from "../hooks";
import { summaryOf } from "../model/schema";
import { link, navigate } from "../router";

const LATEST = 5;
const POLL_MS = 3_000;

export async function startRun(request: Call): Promise<void> {
  const handler = (await call(request)) as unknown as Handler;
  navigate(link(["runs", handler.handler_id], { run: handler.run_id }));
}

interface WorkflowPageProps {
  name: string;
  query: URLSearchParams;
}

export function WorkflowPage({ name, query }: WorkflowPageProps) {
  useTitle(name);
  const graph = useResource(`graph ${name}`, (signal) => getGraph(name, signal));
  const latest = useResource(
    `latest ${name}`,
    (signal) => listHandlers(new URLSearchParams({ workflow_name: name, limit: String(LATEST) }), signal),
    POLL_MS,
  );
  if (graph.problem && !graph.data) {
    return (
      <>
        <header class="page-head">
          <h1>{name}</h1>
        </header>
        <ProblemNote problem={graph.problem} retry={graph.reload} />
        <p>
          <a href={link(["workflows"])}>All workflows</a>
        </p>
      </>
    );
  }
  return (
    <>
      <header class="page-head">
        <p class="crumbs">
          <a href={link(["workflows"])}>Workflows</a>
        </p>
        <h1>{name}</h1>
        <p class="lead">{summaryOf(graph.data?.description) || " "}</p>
      </header>
      <div class="columns">
        <Section id="graph" title="Steps and events">
          <div class="graph-frame">{graph.data ? <Graph graph={graph.data} /> : <Loading what="the graph" />}</div>
        </Section>
        <StartPanel key={query.toString()} name={name} handlerId={query.get("handler")} from={query.get("from")} />
        <Section id="latest" title="Latest runs" aside={<a href={link(["runs"], { workflow: name })}>All runs of {name}</a>}>
          {latest.data?.handlers.length === 0 && <Empty title="It has not run yet. Start it with the form." />}
          {latest.data && latest.data.handlers.length > 0 && <RunTable handlers={latest.data.handlers} of="workflow" />}
          {!latest.data && <Loading what="runs" />}
        </Section>
      </div>
    </>
  );
}

interface StartPanelProps {
  name: string;
  /** The handler to go on with. */
  handlerId: string | null;
  /** The run whose input to begin from: `handler run`. */
  from: string | null;
}

function StartPanel({ name, handlerId, from }: StartPanelProps) {
  const schema = useResource(`schema ${name}`, (signal) => getSchema(name, signal));
  const source = useResource(`input ${from}`, async (signal) => {
    const [handler, run] = from?.split(" ") ?? [];
    const event = handler && run ? (await getHandler(handler, run, signal)).start_event : null;
    return { input: event && fieldsOf(event.value) };
  });
  const [id, setId] = useState(handlerId ?? "");
  const request = (value: JsonObject): Call => calls.run(name, { start_event: value, ...(id ? { handler_id: id } : {}) });
  const title = handlerId ? "Continue the handler" : "Start a run";
  return (
    <Section id="start" title={title} aside={<span class="muted">{schema.data?.start.title}</span>}>
      {handlerId && (
        <p class="note">
          The new run starts with the state that <a href={link(["runs", handlerId])}>{handlerId}</a> left.
        </p>
      )}
      {schema.problem && <ProblemNote problem={schema.problem} retry={schema.reload} />}
      {(!schema.data || (!source.data && !source.problem)) && !schema.problem && <Loading what="the form" />}
      {schema.data && (source.data || source.problem) && (
        <>
          <p class="help">{startHelp(schema.data.start.title, schema.data.start.description)}</p>
          <SchemaForm
            schema={schema.data.start}
            initial={source.data?.input}
            submitLabel={handlerId ? "Continue" : "Run"}
            request={request}
            onSubmit={(value) => startRun(request(value))}
          >
            <details class="options">
              <summary>Handler id</summary>
              <p class="help" id="handler-id-help">
                A name for the conversation, or the id of an ended one, which then goes on from its state. Left empty, the
                server makes one.
              </p>
              <input
                type="text"
                aria-label="Handler id"
                aria-describedby="handler-id-help"
                pattern="\.*[A-Za-z0-9_~\-][A-Za-z0-9._~\-]*|\.{3,}"
                maxLength={255}
                placeholder="made by the server"
                value={id}
                onInput={(event) => setId(event.currentTarget.value.trim())}
              />
            </details>
          </SchemaForm>
        </>
      )}
    </Section>
  );
}

/** The engine's own StartEvent describes itself to programmers. */
function startHelp(title: string | undefined, description: string | undefined): string {
  return title === "StartEvent" ? "" : summaryOf(description);
}
