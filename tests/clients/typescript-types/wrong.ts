// What the types refuse: each line that is marked, with the error that is named, and no other.

import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Schemas = components["schemas"];

const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });

const greeting = await client.POST("/workflows/greeting/run", {
  body: { start_event: { nam: "Ada" } }, // TS2561
});
greeting.data?.result?.value.text; // TS2339

await client.POST("/workflows/greeting/run", {}); // TS2345
await client.POST("/workflows/unknown/run", { body: {} }); // TS2345
await client.POST("/workflows/approval/run", {
  body: { start_event: { purpose: "Train tickets", amount: "240.5" } }, // TS2322
});

export const answer: Schemas["ApprovalSentEvent"] = {
  type: "Decision",
  value: { approved: "yes" }, // TS2322
};

export function describe(event: Schemas["ApprovalStreamEvent"]): string {
  switch (event.type) {
    case "Token": // TS2678
      return "";
    case "Decided":
      return event.value.outcome === "postponed" ? "later" : "now"; // TS2367
    default:
      return event.value.question; // TS2339
  }
}
