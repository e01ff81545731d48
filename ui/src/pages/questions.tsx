/** All runs that wait for a person. */

import { useEffect, useRef, useState } from "preact/hooks";
import { calls, getEventSchemas, getGraph, getHandler, listHandlers } from "../api/client";
import { readEvent } from "../api/stream";
import type { Handler, HandlerPage } from "../api/types";
import { CurlButton } from "../components/copy";
import { Ago, Empty, Loading, ProblemNote } from "../components/parts";
import { QuestionCard } from "../components/question";
import { useResource, useTitle } from "../hooks";
import { count } from "../model/format";
import { link } from "../router";

const POLL_MS = 4_000;
const PAGE = 50;
const QUERY = new URLSearchParams({ waiting: "true", status: "running", limit: String(PAGE) });

/** Servers from before the `waiting` filter list every running handler; their questions tell. */
export async function listWaiting(signal: AbortSignal): Promise<HandlerPage> {
  const page = await listHandlers(QUERY, signal);
  return { ...page, handlers: page.handlers.filter((handler) => handler.questions?.length) };
}

export function QuestionsPage() {
  useTitle("Questions");
  const { data: page, problem, reload } = useResource("waiting", listWaiting, POLL_MS);
  const [settled, setSettled] = useState<ReadonlySet<string>>(new Set());
  // A card is as high as its question: those below the first that still loads would be moved by it.
  const loading = page?.handlers.findIndex((handler) => !settled.has(handler.run_id)) ?? -1;
  const shown = useRef(new Set<string>());
  page?.handlers.forEach((handler, index) => {
    if (loading < 0 || index <= loading) shown.current.add(handler.run_id);
  });
  return (
    <>
      <header class="page-head">
        <h1>Questions</h1>
        <CurlButton request={() => calls.handlers(QUERY.toString())} what="List the runs that wait for a person" />
      </header>
      {problem && <ProblemNote problem={problem} retry={reload} />}
      {!page && !problem && <Loading what="questions" />}
      {page?.handlers.length === 0 && (
        <Empty title="No run waits for a person.">
          <p>When a workflow asks something, the question appears here with the form of its answer.</p>
        </Empty>
      )}
      <ul class="question-list">
        {page?.handlers.map((handler) => (
          <li key={handler.run_id} class="panel" hidden={!shown.current.has(handler.run_id)}>
            <Waiting
              handler={handler}
              reload={reload}
              onSettled={() => setSettled((before) => new Set(before).add(handler.run_id))}
            />
          </li>
        ))}
      </ul>
      {page?.next_cursor && <p class="muted">Shown are the {count(page.handlers.length, "handler")} that started last; answer these to see older ones.</p>}
    </>
  );
}

interface WaitingProps {
  handler: Handler;
  reload: () => void;
  /** Called when the card has its height. */
  onSettled: () => void;
}

function Waiting({ handler, reload, onSettled }: WaitingProps) {
  const { handler_id: id, workflow_name: name } = handler;
  const sequences = handler.questions?.map((question) => question.sequence) ?? [];
  const key = `${handler.run_id} ${sequences.join(" ")}`;
  // The list leaves out the schemas of what answers.
  const full = useResource(`handler ${key}`, (signal) => getHandler(id, handler.run_id, signal));
  const questions = useResource(`questions ${key}`, (signal) =>
    Promise.all(sequences.map((sequence) => readEvent(id, sequence, signal))),
  );
  const graph = useResource(`graph ${name}`, (signal) => getGraph(name, signal));
  const events = useResource(`events ${name}`, (signal) => getEventSchemas(name, signal));
  const loaded = full.data && questions.data && graph.data && events.data;
  const problem = full.problem ?? questions.problem ?? graph.problem ?? events.problem;
  const isSettled = Boolean(loaded || problem);
  useEffect(() => {
    if (isSettled) onSettled();
  }, [isSettled]);
  return (
    <>
      <header class="panel-head">
        <h2>
          {name} <a class="id" href={link(["runs", id])}>{id}</a>
        </h2>
        <span class="muted">
          asked <Ago iso={handler.updated_at} />
        </span>
      </header>
      {problem && <ProblemNote problem={problem} />}
      {!loaded && !problem && <Loading what="the question" />}
      {loaded &&
        questions.data?.map(
          (question) =>
            question && (
              <QuestionCard
                key={question.sequence}
                handlerId={id}
                runId={handler.run_id}
                question={question}
                asked={full.data?.questions?.find(({ sequence }) => sequence === question.sequence)}
                events={events.data ?? []}
                graph={graph.data!}
                onAnswered={() => setTimeout(reload, 1_000)}
              />
            ),
        )}
    </>
  );
}
