/** A question of a run, or an event that it waits for, and the form of the answer. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { call, calls, Problem, type Call } from "../api/client";
import { fieldsOf, type AwaitedEvent, type JsonObject, type JsonSchema, type OpenQuestion, type Representation, type RunEvent } from "../api/types";
import { formatTime } from "../model/format";
import { answerKinds, awaitedKind, sentenceOf, type AnswerKind } from "../model/questions";
import { describe } from "../model/schema";
import { SchemaForm, type Decision } from "./form";
import { JsonView } from "./json";

interface QuestionProps {
  handlerId: string;
  runId: string;
  question: RunEvent;
  /** The question as the handler tells of it. */
  asked: OpenQuestion | undefined;
  events: JsonSchema[];
  graph: Representation;
  onAnswered: () => void;
}

/** Questions that were answered from this page: `run sequence`. */
const answered = new Set<string>();

export function QuestionCard({ handlerId, runId, question, asked, events, graph, onAnswered }: QuestionProps) {
  const key = `${runId} ${question.sequence}`;
  const [state, setState] = useState<"open" | "sent" | "taken">(answered.has(key) ? "sent" : "open");
  const kinds = answerKinds(asked, question.type, events, graph);
  const sentence = sentenceOf(question) ?? asked?.text ?? null;
  const fields = fieldsOf(question.value);
  const request = (type: string, value: JsonObject): Call =>
    calls.send(handlerId, { event: { type, value }, reply_to: question.sequence, run_id: runId });
  const onSubmit = async (type: string, value: JsonObject): Promise<void> => {
    try {
      await call(request(type, value));
      setState("sent");
    } catch (error) {
      if (!(error instanceof Problem && error.code === "question_not_open")) throw error;
      setState("taken");
    }
    answered.add(key);
    onAnswered();
  };
  return (
    <div class="question" data-sequence={question.sequence}>
      <p class="question-sentence">{sentence ?? `The run asks: ${question.type}`}</p>
      {Object.keys(fields).length > (sentence === null ? 0 : 1) && <JsonView value={fields} label={`Fields of ${question.type}`} />}
      {state === "sent" && <Sent>Answered. The run goes on.</Sent>}
      {state === "taken" && (
        <p class="note" role="status">
          Somebody has answered this question already.
        </p>
      )}
      {state === "open" && kinds.length === 0 && (
        <p class="note">This workflow declares no event that could answer; answer through the API with an event that it waits for.</p>
      )}
      {state === "open" && <AnswerForm id={key} kinds={kinds} label="Send the answer" request={request} onSubmit={onSubmit} />}
    </div>
  );
}

interface AwaitedProps {
  handlerId: string;
  runId: string;
  awaited: AwaitedEvent;
  events: JsonSchema[];
  onSent: () => void;
}

/** An event that a run waits for without a question. */
export function AwaitedCard({ handlerId, runId, awaited, events, onSent }: AwaitedProps) {
  const [sent, setSent] = useState(false);
  const request = (type: string, value: JsonObject): Call => calls.send(handlerId, { event: { type, value }, run_id: runId });
  const onSubmit = async (type: string, value: JsonObject): Promise<void> => {
    await call(request(type, value));
    setSent(true);
    onSent();
  };
  const steps = `${awaited.steps.length === 1 ? "step" : "steps"} ${awaited.steps.join(", ")}`;
  return (
    <div class="question" data-awaits={awaited.type}>
      <p class="question-sentence">{awaited.waiter_id === null ? `${awaited.type} goes to the ${steps}` : `The ${steps} waits for ${awaited.type}`}</p>
      {sent ? (
        <Sent>Sent. The run goes on.</Sent>
      ) : (
        <AnswerForm
          id={`${handlerId} ${awaited.waiter_id ?? ""} ${awaited.qualified_name}`}
          kinds={[awaitedKind(awaited, events)]}
          label="Send the event"
          isNamed
          request={request}
          onSubmit={onSubmit}
        />
      )}
    </div>
  );
}

function Sent({ children }: { children: ComponentChildren }) {
  return (
    <p class="note good" role="status">
      {children}
    </p>
  );
}

interface AnswerProps {
  id: string;
  kinds: AnswerKind[];
  label: string;
  /** Whether it is said above which event is sent. */
  isNamed?: boolean;
  request: (type: string, value: JsonObject) => Call;
  onSubmit: (type: string, value: JsonObject) => Promise<void>;
}

function AnswerForm({ id, kinds, label, isNamed = false, request, onSubmit }: AnswerProps) {
  const [chosen, setChosen] = useState("");
  const kind = kinds.find((one) => one.type === chosen) ?? kinds[0];
  if (!kind) return null;
  return (
    <>
      {isNamed || <AnswerAs kinds={kinds.map((one) => one.type)} type={kind.type} onChange={setChosen} id={id} />}
      {kind.dueAt && <p class="muted">Until {formatTime(kind.dueAt)}; then the wait times out.</p>}
      <SchemaForm
        key={kind.type}
        schema={kind.schema}
        initial={kind.initial}
        submitLabel={label}
        request={(value) => request(kind.type, value)}
        onSubmit={(value) => onSubmit(kind.type, value)}
        decision={decisionOf(kind)}
      />
    </>
  );
}

interface AnswerAsProps {
  kinds: string[];
  type: string;
  id: string;
  onChange: (type: string) => void;
}

function AnswerAs({ kinds, type, id, onChange }: AnswerAsProps) {
  if (kinds.length === 1) return <p class="muted">Answer with {type}</p>;
  return (
    <p class="row">
      <label class="muted" for={`as ${id}`}>
        Answer with
      </label>
      <select id={`as ${id}`} class="fit" value={type} onChange={(event) => onChange(event.currentTarget.value)}>
        {kinds.map((kind) => (
          <option key={kind} value={kind}>
            {kind}
          </option>
        ))}
      </select>
    </p>
  );
}

const MAX_OPTIONS = 4;

/** Where the one thing that must be said is yes or no, or one of a few: a button says it and sends. */
function decisionOf({ schema, open }: AnswerKind): Decision | null {
  const [name, more] = open;
  const property = name === undefined ? undefined : schema.properties?.[name];
  if (name === undefined || more !== undefined || !property) return null;
  const { shape } = describe(property, schema);
  const options = shape.kind === "boolean" ? [true, false] : shape.kind === "choice" ? shape.options : [];
  return options.length >= 2 && options.length <= MAX_OPTIONS ? { name, options } : null;
}
