/** One run: as it goes on, and after it has ended. */

import { calls, getEventSchemas, getGraph } from "../api/client";
import type { Connection } from "../api/stream";
import { fieldsOf, unwrapped, type Handler, type HandlerInFull, type Json, type Representation } from "../api/types";
import { CopyButton, CurlButton } from "../components/copy";
import { EventLog } from "../components/events";
import { Graph } from "../components/graph";
import { JsonView } from "../components/json";
import { Ago, Empty, Loading, ProblemNote, RunDuration, Section, StatusBadge } from "../components/parts";
import { AwaitedCard, QuestionCard } from "../components/question";
import { Timeline } from "../components/timeline";
import { useNow, useResource, useTitle } from "../hooks";
import { formatTime } from "../model/format";
import { deadEndOf, failureOf, holdOf, needsAnswer, placeOf, riskOf, standingOf } from "../model/phase";
import { awaitedBeside } from "../model/questions";
import { link } from "../router";
import { RunActions } from "./run-actions";
import { RunsOfHandler } from "./runs-of-handler";
import { useRun, type Run } from "./use-run";

const TICK_MS = 250;

interface RunPageProps {
  handlerId: string;
  runId: string | null;
}

export function RunPage({ handlerId, runId }: RunPageProps) {
  useTitle(handlerId);
  const run = useRun(handlerId, runId);
  const { handler, problem } = run;
  if (!handler) {
    return (
      <>
        <header class="page-head">
          <p class="crumbs">
            <a href={link(["runs"])}>Runs</a>
          </p>
          <h1 class="id">{handlerId}</h1>
        </header>
        {problem ? <Missing problem={problem} retry={run.refresh} /> : <Loading what="the run" />}
      </>
    );
  }
  return <Told key={handler.run_id} run={run} handler={handler} />;
}

function Missing({ problem, retry }: { problem: NonNullable<Run["problem"]>; retry: () => void }) {
  if (problem.status !== 404) return <ProblemNote problem={problem} retry={retry} />;
  return (
    <Empty title={problem.detail}>
      <p>It may have been purged, or kept by a server that kept its runs in memory.</p>
      <p>
        <a class="button" href={link(["runs"])}>
          All runs
        </a>
      </p>
    </Empty>
  );
}

function Told({ run, handler }: { run: Run; handler: HandlerInFull }) {
  const running = handler.status === "running";
  const held = standingOf(handler) === "held";
  const now = useNow(running && !held ? TICK_MS : null);
  const story = held ? run.story.halted() : run.story;
  const workflow = handler.workflow_name;
  const graph = useResource(`graph ${workflow}`, (signal) => getGraph(workflow, signal));
  return (
    <>
      <RunHead run={run} handler={handler} />
      {run.newerRun && (
        <p class="note">
          This handler has run again since. <a href={link(["runs", handler.handler_id], { run: run.newerRun })}>Show its newest run</a>
        </p>
      )}
      {run.problem && <ProblemNote problem={run.problem} />}
      <Obstacles handler={handler} />
      <div class="pair">
        {needsAnswer(handler) || awaitedBeside(handler).length > 0 ? (
          <Waits run={run} handler={handler} graph={graph.data} />
        ) : (
          <Ending handler={handler} />
        )}
        <Input handler={handler} />
      </div>
      <Section id="graph" title="Steps and events">
        <div class="graph-frame">
          {graph.data && <Graph graph={graph.data} story={story} version={run.version} waiting={needsAnswer(handler)} />}
          {!graph.data && !graph.problem && <Loading what="the graph" />}
          {graph.problem && <Empty title={`The workflow ${workflow} is not served any more, so there is no graph of it.`} />}
        </div>
      </Section>
      <Section id="timeline" title="Timeline">
        <Timeline story={story} version={run.version} now={now} />
      </Section>
      <Section id="events" title="Events" aside={
          <span class="row">
            <ConnectionNote connection={run.connection} />
            <CurlButton request={() => calls.events(handler.handler_id, run.newerRun && handler.run_id)} what="Follow the events" />
          </span>
        }>
        <EventLog events={run.events} version={run.version} live={running} />
      </Section>
      <RunsOfHandler handler={handler} />
    </>
  );
}

function RunHead({ run, handler }: { run: Run; handler: HandlerInFull }) {
  return (
    <header class="page-head run-head">
      <p class="crumbs">
        <a href={link(["runs"])}>Runs</a>
      </p>
      <h1>
        <a href={link(["workflows", handler.workflow_name])}>{handler.workflow_name}</a>{" "}
        <span class="id">{handler.handler_id}</span>
        <CopyButton compact label="Copy the handler's id" text={() => handler.handler_id} />
      </h1>
      <div class="row facts" role="status" aria-live="polite" aria-atomic="true">
        <StatusBadge handler={handler} />
      </div>
      <dl class="facts">
        <div>
          <dt>Started</dt>
          <dd>
            <Ago iso={handler.started_at} />
          </dd>
        </div>
        <div>
          <dt>{handler.status === "running" ? "For" : "Took"}</dt>
          <dd>
            <RunDuration handler={handler} every={TICK_MS} />
          </dd>
        </div>
        <div>
          <dt>Run</dt>
          <dd class="id" title={`Started ${formatTime(handler.started_at)}`}>
            {handler.run_id}
          </dd>
        </div>
      </dl>
      <RunActions handler={handler} earlier={run.newerRun !== null} onChanged={run.refresh} />
    </header>
  );
}

/** Why a run does not go on, or would not after a restart. */
function Obstacles({ handler }: { handler: Handler }) {
  const [deadEnd, hold, risk] = [deadEndOf(handler), holdOf(handler), riskOf(handler)];
  return (
    <>
      {deadEnd && (
        <p class="note bad">
          <b>This run is stuck.</b> {deadEnd}
        </p>
      )}
      {hold && (
        <p class="note bad">
          <b>This run is held.</b> {hold} The server tries it again at each start. Cancel it to end it.
        </p>
      )}
      {risk && (
        <p class="note wait">
          <b>This run cannot be resumed.</b> {risk} It lives in the memory of this server: a restart ends it.
        </p>
      )}
    </>
  );
}

/** What the run waits for, questions first, each with the form of its answer. */
function Waits({ run, handler, graph }: { run: Run; handler: Handler; graph: Representation | null }) {
  const open = new Map(handler.questions?.map((question) => [question.sequence, question]));
  const asked = run.story.questions.filter((question) => open.has(question.sequence));
  const beside = awaitedBeside(handler);
  const name = handler.workflow_name;
  const schemas = useResource(`events ${name}`, (signal) => getEventSchemas(name, signal));
  const what = open.size === 0 ? "an event" : open.size === 1 ? "an answer" : "answers";
  const shared = { handlerId: handler.handler_id, runId: handler.run_id, events: schemas.data ?? [] };
  return (
    <Section id="question" title={`The run waits for ${what}`}>
      {graph && schemas.data && (asked.length > 0 || open.size === 0) ? (
        <>
          {asked.map((question) => (
            <QuestionCard
              key={question.sequence}
              {...shared}
              question={question}
              asked={open.get(question.sequence)}
              graph={graph}
              onAnswered={run.refresh}
            />
          ))}
          {beside.map((awaited) => (
            <AwaitedCard key={`${awaited.waiter_id} ${awaited.qualified_name}`} {...shared} awaited={awaited} onSent={run.refresh} />
          ))}
        </>
      ) : (
        <Loading what="the question" />
      )}
    </Section>
  );
}

function Input({ handler: { start_event: event, workflow_name: name } }: { handler: HandlerInFull }) {
  const fields = event && fieldsOf(event.value);
  return (
    <Section
      id="input"
      title="Input"
      aside={
        event &&
        fields && (
          <span class="row">
            <ValueTools type={event.type} what="input" value={fields} />
            <CurlButton request={() => calls.run(name, { start_event: event as unknown as Json })} what="Run again" />
          </span>
        )
      }
    >
      {fields && Object.keys(fields).length > 0 && <JsonView value={fields} label="Input" />}
      {fields && Object.keys(fields).length === 0 && <Empty title="It started without any fields." />}
      {!event && <Empty title="It went on from a context that had begun already." />}
    </Section>
  );
}

function ValueTools({ type, what, value }: { type: string; what: string; value: Json }) {
  return (
    <span class="row">
      <span class="muted">{type}</span>
      <CopyButton compact label={`Copy the ${what}`} text={() => JSON.stringify(value, null, 2)} />
    </span>
  );
}

function Ending({ handler }: { handler: Handler }) {
  if (handler.status === "running") {
    const timer = handler.awaits?.timers[0];
    return (
      <Section id="ending" title="Result">
        <Empty title="It appears here when the run has ended.">
          {timer && <p>The run waits for a timer, which is due {formatTime(timer.due_at)}.</p>}
        </Empty>
      </Section>
    );
  }
  if (handler.status === "failed") {
    return (
      <Section id="ending" title="Why it failed">
        <p class="error-text">{failureOf(handler)}</p>
        {handler.failure && <p class="muted">{placeOf(handler.failure)}</p>}
      </Section>
    );
  }
  if (handler.status === "cancelled") {
    return (
      <Section id="ending" title="Cancelled">
        <p>The run was stopped before its end{handler.error ? `: ${handler.error}` : "."}</p>
      </Section>
    );
  }
  const { result } = handler;
  const shown = result ? unwrapped(result) : null;
  return (
    <Section id="ending" title="Result" aside={<ValueTools type={result?.type ?? ""} what="result" value={shown} />}>
      {typeof shown === "string" ? <p class="result-text">{shown}</p> : <JsonView value={shown} label="Result" />}
    </Section>
  );
}

function ConnectionNote({ connection }: { connection: Connection }) {
  const now = useNow(connection.state === "reconnecting" ? 500 : null);
  const texts: Record<Connection["state"], string> = {
    connecting: "connecting…",
    live: "live",
    reconnecting: "reconnecting",
    ended: "all events shown",
    refused: "stopped",
  };
  let text = texts[connection.state];
  if (connection.state === "reconnecting") {
    const seconds = Math.max(0, Math.ceil((connection.retryAt - now) / 1000));
    text = `connection lost, trying again ${seconds ? `in ${seconds} s` : "now"} (${connection.attempt})`;
  }
  if (connection.state === "refused") text = connection.detail;
  return (
    <span class={`connection ${connection.state}`} role="status" data-connection={connection.state}>
      <span class="dot" aria-hidden="true" />
      {text}
    </span>
  );
}
