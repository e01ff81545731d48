/** What a run waits for, and which events may answer its questions. */

import { fieldsOf, type AwaitedEvent, type Handler, type Json, type JsonObject, type JsonSchema, type OpenQuestion, type Representation, type RunEvent } from "../api/types";
import { kindOf } from "./graph";
import { initialDraft, isObject } from "./schema";

export interface AnswerKind {
  type: string;
  schema: JsonSchema;
  /** What its form holds at first; null: what the schema says. */
  initial: JsonObject | null;
  /** The fields that must be filled in, but for those that are required to have one value. */
  open: string[];
  dueAt: string | null;
}

/** As the server masks values that clients may not see. */
const MASKED = "**********";

/** The events that answer a question, as the server names them, or else as the graph lets one guess. */
export function answerKinds(asked: OpenQuestion | undefined, question: string, events: JsonSchema[], graph: Representation): AnswerKind[] {
  const awaited = asked?.awaits ?? [];
  return awaited.length ? awaited.map((event) => awaitedKind(event, events)) : guessKinds(question, events, graph);
}

/** The form of an event that a run waits for, with what is required of it filled in. */
export function awaitedKind(event: AwaitedEvent, events: JsonSchema[]): AnswerKind {
  const schema = event.schema ?? events.find(({ title }) => title === event.type) ?? { title: event.type };
  const required = Object.entries(event.requirements).filter(([, value]) => value !== MASKED);
  const initial = firstDraft(schema);
  return {
    type: event.type,
    schema,
    initial: required.length ? { ...initial, ...Object.fromEntries(required) } : initial,
    open: (schema.required ?? []).filter((name) => !(name in event.requirements)),
    dueAt: event.due_at,
  };
}

/** The events that a run waits for, and that no form of an open question is for. */
export function awaitedBeside(handler: Handler): AwaitedEvent[] {
  const questions = handler.questions ?? [];
  const offered = new Set(questions.flatMap((question) => question.awaits ?? []).map(identify));
  return (handler.awaits?.events ?? []).filter((event) => handler.status === "running" && !offered.has(identify(event)));
}

function identify({ qualified_name: name, waiter_id: waiter, steps }: AwaitedEvent): string {
  return JSON.stringify([name, waiter, steps]);
}

/** `response` is the field that nearly all take who take any; nobody means to leave it out. */
function firstDraft(schema: JsonSchema): JsonObject {
  const draft = initialDraft(schema, schema);
  const fields = Object.keys(schema.properties ?? {});
  const isPlain = !fields.length || (fields.length === 1 && fields[0] === "response");
  const isAnswer = schema.title === "HumanResponseEvent" || fields.length === 1;
  return { ...(isPlain && isAnswer ? { response: "" } : {}), ...(isObject(draft) ? draft : {}) };
}

/** Likely answers first; what goes from step to step is none, if anything else is there. */
function guessKinds(question: string, events: JsonSchema[], graph: Representation): AnswerKind[] {
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  const rank = (type: string): number => {
    const node = nodes.get(type);
    const kind = node ? kindOf(node) : "event";
    const consumed = graph.edges.some((edge) => edge.source === type && nodes.get(edge.target)?.node_type === "step");
    if (kind === "answer") return consumed ? 0 : 1;
    // What no step takes or makes is waited for inside of a step.
    if (!node) return 2;
    return { start: 5, stop: 6, question: 4 }[kind as string] ?? 3;
  };
  const found = events
    .map((schema) => ({ type: schema.title ?? "", schema, initial: firstDraft(schema), open: schema.required ?? [], dueAt: null }))
    .filter(({ type }) => type !== "" && rank(type) < 4 && type !== question)
    .sort((one, other) => rank(one.type) - rank(other.type) || kinship(other.type, question) - kinship(one.type, question));
  const likely = found.filter(({ type }) => rank(type) < 3);
  return likely.length ? likely : found;
}

/** How many words of their names two classes have in common: AskName and NameGiven have one. */
function kinship(one: string, other: string): number {
  const words = (name: string): string[] => name.match(/[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+/g)?.map((word) => word.toLowerCase()) ?? [];
  const theirs = new Set(words(other));
  return words(one).filter((word) => theirs.has(word)).length;
}

const SENTENCES = ["prefix", "question", "prompt", "message", "text", "title", "query"];

/** The sentence that a question puts to people: its prefix or the like, else its first text. */
export function sentenceOf(question: RunEvent): string | null {
  const fields = fieldsOf(question.value);
  const says = (value: Json | undefined): value is string => typeof value === "string" && value.trim() !== "" && value !== MASKED;
  return [...SENTENCES.map((name) => fields[name]), ...Object.values(fields)].find(says) ?? null;
}
