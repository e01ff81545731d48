// What the types allow.

import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Schemas = components["schemas"];

const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });

export async function greet(name: string): Promise<unknown> {
  const { data } = await client.POST("/workflows/greeting/run", {
    body: { start_event: { name } },
  });
  return data?.result?.value.result;
}

// All fields of the start event have defaults, so there may be none, or no start event.
export async function recite(): Promise<number | undefined> {
  await client.POST("/workflows/tokens/run", {});
  const { data } = await client.POST("/workflows/tokens/run", { body: { start_event: {} } });
  return data?.result?.value.tokens;
}

export async function approve(handler_id: string): Promise<void> {
  await client.POST("/workflows/approval/run-nowait", {
    body: { start_event: { purpose: "Train tickets", amount: 240.5 }, handler_id },
  });
  const decision: Schemas["ApprovalSentEvent"] = { type: "Decision", value: { approved: true } };
  await client.POST("/events/{handler_id}", {
    params: { path: { handler_id } },
    body: { event: decision, reply_to: 0 },
  });
}

export function describe(event: Schemas["ApprovalStreamEvent"]): string {
  switch (event.type) {
    case "ApprovalRequired":
      return event.value.question;
    case "Decided":
      return event.value.outcome === "approved" ? "yes" : "no";
    case "WorkflowFailedEvent":
      return event.value.step_name;
    default:
      return event.type;
  }
}
