/** Which events may answer a question. */

import type { JsonSchema, Representation, RunEvent } from "../api/types";
import { kindOf } from "./graph";

export interface AnswerKind {
  type: string;
  schema: JsonSchema;
}

/** Every event that may be sent, likely answers first. */
export function answerKinds(question: string, events: JsonSchema[], graph: Representation): AnswerKind[] {
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
  return events
    .map((schema) => ({ type: schema.title ?? "", schema }))
    .filter(({ type }) => type !== "" && rank(type) < 4 && type !== question)
    .sort((one, other) => rank(one.type) - rank(other.type) || kinship(other.type, question) - kinship(one.type, question));
}

/** How many words of their names two classes have in common: AskName and NameGiven have one. */
function kinship(one: string, other: string): number {
  const words = (name: string): string[] => name.match(/[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+/g)?.map((word) => word.toLowerCase()) ?? [];
  const theirs = new Set(words(other));
  return words(one).filter((word) => theirs.has(word)).length;
}

const SENTENCES = ["question", "prompt", "message", "text", "prefix", "title", "query"];

/** The sentence that a question puts to people, or null where no field looks like one. */
export function sentenceOf(question: RunEvent): string | null {
  for (const key of SENTENCES) {
    const value = question.value[key];
    if (typeof value === "string" && value.trim()) return value;
  }
  const texts = Object.values(question.value).filter((value) => typeof value === "string");
  return texts.length === 1 ? (texts[0] ?? null) : null;
}
