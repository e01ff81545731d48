/** A question of a run, and the form of its answer. */

import { useState } from "preact/hooks";
import { call, calls, Problem, type Call } from "../api/client";
import type { JsonObject, JsonSchema, Representation, RunEvent } from "../api/types";
import { describe } from "../model/schema";
import { answerKinds, sentenceOf } from "../model/questions";
import { SchemaForm, type Decision } from "./form";
import { JsonView } from "./json";

interface QuestionProps {
  handlerId: string;
  question: RunEvent;
  events: JsonSchema[];
  graph: Representation;
  onAnswered: () => void;
}

/** Questions that were answered from this page: `handler sequence`. */
const answered = new Set<string>();

export function QuestionCard({ handlerId, question, events, graph, onAnswered }: QuestionProps) {
  const kinds = answerKinds(question.type, events, graph);
  const [type, setType] = useState(kinds[0]?.type ?? "");
  const key = `${handlerId} ${question.sequence}`;
  const [state, setState] = useState<"open" | "sent" | "taken">(answered.has(key) ? "sent" : "open");
  const kind = kinds.find((one) => one.type === type);
  const sentence = sentenceOf(question);
  const request = (value: JsonObject): Call =>
    calls.send(handlerId, { event: { type, value }, reply_to: question.sequence });
  const onSubmit = async (value: JsonObject): Promise<void> => {
    try {
      await call(request(value));
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
      {(sentence === null || Object.keys(question.value).length > 1) && (
        <JsonView value={question.value} label={`Fields of ${question.type}`} />
      )}
      {state === "sent" && (
        <p class="note good" role="status">
          Answered. The run goes on.
        </p>
      )}
      {state === "taken" && (
        <p class="note" role="status">
          Somebody has answered this question already.
        </p>
      )}
      {state === "open" && !kind && (
        <p class="note">This workflow declares no event that could answer; answer through the API with an event that it waits for.</p>
      )}
      {state === "open" && kind && (
        <>
          <AnswerAs kinds={kinds.map((one) => one.type)} type={type} onChange={setType} id={key} />
          <SchemaForm
            key={type}
            schema={kind.schema}
            initial={plainAnswer(kind.schema)}
            submitLabel="Send the answer"
            request={request}
            onSubmit={onSubmit}
            decision={decisionOf(kind.schema)}
          />
        </>
      )}
    </div>
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

/** A plain HumanResponseEvent takes any fields; `response` is the one that its users know. */
function plainAnswer(schema: JsonSchema): JsonObject | null {
  return schema.title === "HumanResponseEvent" && !Object.keys(schema.properties ?? {}).length ? { response: "" } : null;
}

const MAX_OPTIONS = 4;

/** Where the one thing that must be said is yes or no, or one of a few: a button says it and sends. */
function decisionOf(schema: JsonSchema): Decision | null {
  const [name, more] = schema.required ?? [];
  const property = name === undefined ? undefined : schema.properties?.[name];
  if (name === undefined || more !== undefined || !property) return null;
  const { shape } = describe(property, schema);
  const options = shape.kind === "boolean" ? [true, false] : shape.kind === "choice" ? shape.options : [];
  return options.length >= 2 && options.length <= MAX_OPTIONS ? { name, options } : null;
}
