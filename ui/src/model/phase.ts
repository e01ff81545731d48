/** Where a run stands, in the words of the page. */

import { unwrapped, type Failure, type Handler, type Phase, type Status } from "../api/types";
import { preview } from "./format";

/** The phase of a run that goes on, or how it ended. */
export type Standing = Exclude<Phase, "ended"> | Exclude<Status, "running">;

type Told = Pick<Handler, "status" | "phase" | "awaits" | "questions" | "held_because" | "resumable" | "not_resumable_because">;

export function standingOf({ status, phase, questions }: Told): Standing {
  if (status !== "running") return status;
  if (phase && phase !== "ended") return phase;
  return questions?.length ? "waiting" : "working";
}

export function needsAnswer({ status, questions }: Told): boolean {
  return status === "running" && Boolean(questions?.length);
}

/** Why nothing can make a run go on, in a sentence; null where something can. */
export function deadEndOf({ status, awaits }: Told): string | null {
  return status === "running" ? (awaits?.stuck_because ?? null) : null;
}

/** Why a run is held, in a sentence; null where it is not. */
export function holdOf(handler: Told): string | null {
  if (standingOf(handler) !== "held") return null;
  return sentence(handler.held_because ?? "The server gave no reason");
}

/** Why a run would be lost with its process, in a sentence; null where it would not, or has ended. */
export function riskOf({ status, resumable, not_resumable_because: reason }: Told): string | null {
  if (status !== "running" || resumable !== false) return null;
  return sentence(reason ?? "The server gave no reason");
}

/** What ended a failed run: what the exception said, or its class where it said nothing. */
export function failureOf({ error, failure }: Pick<Handler, "error" | "failure">): string {
  return error || failure?.type || "The server gave no reason.";
}

/** Where a run failed, in a sentence, and what helps where that is known. */
export function placeOf({ type, step, attempts, remedy }: Failure): string {
  const times = attempts !== null && attempts > 1 ? ` after ${attempts} attempts` : "";
  const place = step === null ? `${type}, raised by no step.` : `${type} in the step ${step}${times}.`;
  return remedy ? `${place} ${remedy}` : place;
}

/** What a list tells of a run in a line: its result, or what stands in the way of one. */
export function outcomeOf(handler: Handler): string {
  if (handler.status === "failed") return failureOf(handler);
  if (handler.result) return preview(unwrapped(handler.result), 120);
  const risk = riskOf(handler);
  return [holdOf(handler), risk && `Cannot be resumed: ${risk}`].filter(Boolean).join(" ");
}

function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(begun) ? begun : `${begun}.`;
}
