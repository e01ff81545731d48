/** The shapes of the wire contract, as the UI reads them. */

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

export interface JsonSchema {
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
  title?: string;
  description?: string;
  type?: string | string[];
  format?: string;
  default?: Json;
  examples?: Json[];
  enum?: Json[];
  const?: Json;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  additionalProperties?: boolean | JsonSchema;
  items?: JsonSchema;
  prefixItems?: JsonSchema[];
  minItems?: number;
  maxItems?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  anyOf?: JsonSchema[];
  oneOf?: JsonSchema[];
  allOf?: JsonSchema[];
}

export type Status = "running" | "completed" | "failed" | "cancelled";
export type Phase = "queued" | "working" | "waiting" | "held" | "ended";

export interface Envelope {
  value: JsonObject;
  type: string;
  types: string[] | null;
  qualified_name: string | null;
}

/** An event that a run waits for; in lists of handlers its schema is left out. */
export interface AwaitedEvent {
  type: string;
  qualified_name: string;
  schema: JsonSchema | null;
  requirements: JsonObject;
  steps: string[];
  waiter_id: string | null;
  question: number | null;
  due_at: string | null;
}

export interface AwaitedTimer {
  due_at: string;
  kind: "wait" | "workflow";
  waiter_id: string | null;
}

export interface Awaits {
  events: AwaitedEvent[];
  timers: AwaitedTimer[];
  stuck_because: string | null;
}

/** Servers from before `text` and `awaits` leave them out. */
export interface OpenQuestion {
  sequence: number;
  text?: string | null;
  awaits?: AwaitedEvent[];
}

export interface Handler {
  handler_id: string;
  workflow_name: string;
  run_id: string;
  status: Status;
  started_at: string;
  updated_at: string;
  completed_at: string | null;
  error: string | null;
  /** Servers from before this field leave it out. */
  failure?: Failure | null;
  result: Envelope | null;
  /** Servers from before these fields leave them out. */
  awaits?: Awaits | null;
  questions?: OpenQuestion[];
  phase?: Phase;
  held_because?: string | null;
  resumable?: boolean;
  not_resumable_because?: string | null;
}

export interface Failure {
  type: string;
  qualified_name: string;
  message: string;
  step: string | null;
  attempts: number | null;
  remedy: string | null;
}

export interface HandlerInFull extends Handler {
  start_event: Envelope | null;
}

export interface HandlerPage {
  handlers: Handler[];
  next_cursor: string | null;
}

export interface RunPage {
  runs: Handler[];
  next_cursor: string | null;
}

export interface GraphNode {
  id: string;
  label: string;
  node_type: string;
  description?: string | null;
  event_types?: string[];
  event_schema?: JsonSchema;
}

export interface GraphEdge {
  source: string;
  target: string;
  label: string | null;
}

export interface Representation {
  name: string;
  description: string | null;
  nodes: GraphNode[];
  edges: GraphEdge[];
}

/** How many runs are in each phase; phases without any are left out. */
export type RunCounts = Partial<Record<Phase, number>>;

export interface Server {
  /** Null where one server has the store for itself. */
  id: number | null;
  address: string | null;
  version: string | null;
  /** `serving`, `draining`, or a word of a later server; null before it has said so. */
  state: string | null;
  heartbeat_age: number | null;
  workflows: string[];
  runs: RunCounts;
  is_asked: boolean;
}

export interface ServerList {
  servers: Server[];
  unowned: RunCounts;
}

/** An event as the page holds it; `at` is when it was emitted, in milliseconds, where that is known. */
export interface RunEvent extends Envelope {
  sequence: number;
  at: number | null;
}

export interface Fault {
  loc: (string | number)[];
  msg: string;
  type: string;
}

/** The fields of an event; the engine keeps those that no class declares apart. */
export function fieldsOf({ _data: free, ...declared }: JsonObject): JsonObject {
  if (typeof free === "object" && free !== null && !Array.isArray(free)) return { ...declared, ...free };
  return free === undefined ? declared : { ...declared, _data: free };
}

/** The result of a plain stop event, or the fields of a class of its own. */
export function unwrapped(stop: Envelope): Json {
  return stop.type === "StopEvent" && "result" in stop.value ? (stop.value.result ?? null) : fieldsOf(stop.value);
}

export function isInternal(event: Envelope): boolean {
  return event.types?.includes("InternalDispatchEvent") ?? false;
}

export function isQuestion(event: Envelope): boolean {
  return event.type === "InputRequiredEvent" || (event.types?.includes("InputRequiredEvent") ?? false);
}

export function isStop(event: Envelope): boolean {
  return event.type === "StopEvent" || (event.types?.includes("StopEvent") ?? false);
}
