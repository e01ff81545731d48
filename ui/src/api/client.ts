/** Calls of the API. Each action is a `Call` first, so that its `curl` is the same request. */

import { ask, holdsCredential, href } from "./request";
import type { Fault, HandlerInFull, HandlerPage, Json, JsonObject, JsonSchema, Representation, RunPage, ServerList } from "./types";

export interface Call {
  method: "GET" | "POST";
  path: string;
  body?: JsonObject;
  /** Whether the answer is a stream, to be shown as it comes. */
  streams?: true;
}

/** An answer other than the one asked for; `detail` is a sentence for people. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly faults: Fault[],
  ) {
    super(detail);
  }
}

export async function call(request: Call, signal?: AbortSignal): Promise<Json> {
  const init: RequestInit = { method: request.method, signal: signal ?? null };
  if (request.body) {
    init.body = JSON.stringify(request.body);
    init.headers = { "Content-Type": "application/json" };
  }
  let response: Response;
  try {
    response = await ask(request.path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, "unreachable", "The server cannot be reached. Is it running?", []);
  }
  const content = await readJson(response);
  // A failed run is answered with 500 and its handler all the same.
  if (response.ok || isHandler(content)) return content;
  throw toProblem(response, content);
}

export function curl(request: Call): string {
  const words = [request.streams ? "curl -N" : "curl"];
  if (request.method === "POST") words.push("-X POST");
  words.push(quote(href(request.path)));
  // The key itself is not for clipboards.
  if (holdsCredential()) words.push('-H "Authorization: Bearer $WORKFLOW_SERVER_KEY"');
  if (request.body) {
    words.push("-H 'Content-Type: application/json'", "-d", quote(JSON.stringify(request.body)));
  }
  return words.join(" ");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function readJson(response: Response): Promise<Json> {
  try {
    return (await response.json()) as Json;
  } catch {
    return null;
  }
}

function isObject(content: Json): content is JsonObject {
  return content !== null && typeof content === "object" && !Array.isArray(content);
}

function isHandler(content: Json): boolean {
  return isObject(content) && "handler_id" in content && "run_id" in content;
}

export function toProblem(response: Response, content: Json): Problem {
  const problem = isObject(content) ? content : {};
  const detail =
    typeof problem.detail === "string"
      ? problem.detail
      : `The server answered ${response.status} ${response.statusText}.`;
  const faults = Array.isArray(problem.errors) ? (problem.errors as unknown as Fault[]) : [];
  return new Problem(response.status, String(problem.code ?? ""), detail, faults);
}

export const calls = {
  run: (name: string, body: JsonObject): Call => ({
    method: "POST",
    path: `workflows/${encodeURIComponent(name)}/run-nowait`,
    body,
  }),
  send: (id: string, body: JsonObject): Call => ({
    method: "POST",
    path: `events/${encodeURIComponent(id)}`,
    body,
  }),
  cancel: (id: string): Call => ({
    method: "POST",
    path: `handlers/${encodeURIComponent(id)}/cancel`,
  }),
  purge: (id: string): Call => ({
    method: "POST",
    path: `handlers/${encodeURIComponent(id)}/cancel?purge=true`,
  }),
  /** The handler's current run, or the one that is named. */
  handler: (id: string, runId: string | null): Call => ({
    method: "GET",
    path: `handlers/${encodeURIComponent(id)}${runId ? `?run_id=${encodeURIComponent(runId)}` : ""}`,
  }),
  events: (id: string, runId: string | null): Call => ({
    method: "GET",
    path: `events/${encodeURIComponent(id)}?after_sequence=-1${runId ? `&run_id=${encodeURIComponent(runId)}` : ""}`,
    streams: true,
  }),
  runs: (id: string): Call => ({ method: "GET", path: `handlers/${encodeURIComponent(id)}/runs` }),
  handlers: (query: string): Call => ({ method: "GET", path: `handlers${query && `?${query}`}` }),
  workflows: (): Call => ({ method: "GET", path: "workflows" }),
  servers: (): Call => ({ method: "GET", path: "servers" }),
  drain: (id: number): Call => ({ method: "POST", path: `servers/${id}/drain` }),
};

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await call({ method: "GET", path }, signal)) as unknown as T;
}

export async function listWorkflows(signal?: AbortSignal): Promise<string[]> {
  return (await get<{ workflows: string[] }>("workflows", signal)).workflows;
}

export async function getSchema(
  name: string,
  signal?: AbortSignal,
): Promise<{ start: JsonSchema; stop: JsonSchema }> {
  return get(`workflows/${encodeURIComponent(name)}/schema`, signal);
}

export async function getEventSchemas(name: string, signal?: AbortSignal): Promise<JsonSchema[]> {
  const path = `workflows/${encodeURIComponent(name)}/events`;
  return (await get<{ events: JsonSchema[] }>(path, signal)).events;
}

export async function getGraph(name: string, signal?: AbortSignal): Promise<Representation> {
  const path = `workflows/${encodeURIComponent(name)}/representation`;
  return (await get<{ graph: Representation }>(path, signal)).graph;
}

export async function listServers(signal?: AbortSignal): Promise<ServerList> {
  return get(calls.servers().path, signal);
}

export async function listHandlers(query: URLSearchParams, signal?: AbortSignal): Promise<HandlerPage> {
  return get(calls.handlers(query.toString()).path, signal);
}

export async function listRuns(id: string, query: URLSearchParams, signal?: AbortSignal): Promise<RunPage> {
  return get(`${calls.runs(id).path}?${query.toString()}`, signal);
}

export async function getHandler(id: string, runId: string | null, signal?: AbortSignal): Promise<HandlerInFull> {
  return get(calls.handler(id, runId).path, signal);
}
