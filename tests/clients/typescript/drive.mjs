// Drives every example through the published client, and prints what it got as one JSON object.
// Use: node drive.mjs BASE_URL

import {
  createClient,
  createConfig,
  getEventsByHandlerId,
  getHandlers,
  getHandlersByHandlerId,
  getHealth,
  getResultsByHandlerId,
  getWorkflows,
  getWorkflowsByNameEvents,
  getWorkflowsByNameRepresentation,
  getWorkflowsByNameSchema,
  postEventsByHandlerId,
  postHandlersByHandlerIdCancel,
  postWorkflowsByNameRun,
  postWorkflowsByNameRunNowait,
} from "@llamaindex/workflows-client";

const client = createClient(createConfig({ baseUrl: process.argv[2] }));
const EXPENSE = { purpose: "Train tickets", amount: 240.5 };

// What a call gave: its data, or its error, each with the status.
async function answer(call) {
  const { data, error, response } = await call;
  return { status: response.status, ...(response.ok ? { data } : { error }) };
}

function run(name, body) {
  return answer(postWorkflowsByNameRun({ client, path: { name }, body }));
}

function start(name, handler_id, start_event) {
  const body = { start_event, handler_id };
  return answer(postWorkflowsByNameRunNowait({ client, path: { name }, body }));
}

function getHandler(handler_id) {
  return answer(getHandlersByHandlerId({ client, path: { handler_id } }));
}

function getResult(handler_id) {
  return answer(getResultsByHandlerId({ client, path: { handler_id } }));
}

function listHandlers(query) {
  return answer(getHandlers({ client, query }));
}

function send(handler_id, event, step) {
  return answer(postEventsByHandlerId({ client, path: { handler_id }, body: { event, step } }));
}

function cancel(handler_id, query) {
  return answer(postHandlersByHandlerIdCancel({ client, path: { handler_id }, query }));
}

// The events of a stream with their ids, up to the one that `isLast`, or to the stream's end.
async function read(handler_id, query = { after_sequence: -1 }, isLast = () => false) {
  const ids = [];
  const errors = [];
  const controller = new AbortController();
  const { stream } = await getEventsByHandlerId({
    client,
    path: { handler_id },
    query,
    signal: controller.signal,
    sseMaxRetryAttempts: 1,
    onSseEvent: ({ id, data }) => data !== undefined && ids.push(Number(id)),
    onSseError: (error) => errors.push(String(error)),
  });
  const events = [];
  for await (const event of stream) {
    events.push(event);
    if (isLast(event)) {
      controller.abort();
      break;
    }
  }
  return { ids: ids.slice(0, events.length), events, errors };
}

function question(handler_id) {
  return read(handler_id, { after_sequence: -1 }, ({ type }) => type === "ApprovalRequired");
}

const scenes = {
  async health() {
    return answer(getHealth({ client }));
  },

  async workflows() {
    return answer(getWorkflows({ client }));
  },

  async descriptions() {
    const { data } = await getWorkflows({ client });
    const described = {};
    for (const name of data.workflows) {
      const options = { client, path: { name } };
      described[name] = {
        schema: await answer(getWorkflowsByNameSchema(options)),
        events: await answer(getWorkflowsByNameEvents(options)),
        representation: await answer(getWorkflowsByNameRepresentation(options)),
      };
    }
    return described;
  },

  async greeting() {
    const ran = await run("greeting", { start_event: { name: "Ada" }, handler_id: "greeting" });
    return { ran, handler: await getHandler("greeting"), result: await getResult("greeting") };
  },

  async tokens() {
    const started = await start("tokens", "tokens", { text: "a b c", delay: 0.01 });
    const all = await read("tokens");
    const rest = await read("tokens", { after_sequence: all.ids[1] });
    const unnamed = await read("tokens", { after_sequence: -1, include_qualified_name: false });
    return { started, all, rest, unnamed, result: await getResult("tokens") };
  },

  async approval() {
    await start("approval", "approval", EXPENSE);
    const asked = await question("approval");
    const waiting = await getHandler("approval");
    const decision = { type: "Decision", value: { approved: true, comment: "fine" } };
    const sent = await send("approval", decision, "decide");
    const rest = await read("approval", { after_sequence: asked.ids[0] });
    return { asked, waiting, sent, rest, handler: await getHandler("approval") };
  },

  async jsonString() {
    await start("approval", "string", EXPENSE);
    await question("string");
    const sent = await send("string", JSON.stringify({ type: "Decision", value: { approved: false } }));
    return { sent, events: await read("string") };
  },

  async cancelled() {
    await start("approval", "cancelled", EXPENSE);
    await question("cancelled");
    const cancelled = await cancel("cancelled");
    const events = await read("cancelled");
    const handler = await getHandler("cancelled");
    const purged = await cancel("cancelled", { purge: true });
    return { cancelled, events, handler, purged, gone: await getHandler("cancelled") };
  },

  async pipeline() {
    const text = "so much depends\nupon\na red wheel\nbarrow so red";
    const started = await start("pipeline", "pipeline", { text, chunks: 2 });
    return { started, events: await read("pipeline") };
  },

  async conversation() {
    const say = (message) =>
      run("conversation", { start_event: { message }, handler_id: "conversation" });
    return { first: await say("I am Ada."), second: await say("Who am I?") };
  },

  async flaky() {
    const started = await start("flaky", "flaky", { failures: 2 });
    return { started, events: await read("flaky"), result: await getResult("flaky") };
  },

  async failed() {
    const ran = await run("flaky", { start_event: { failures: 3 }, handler_id: "failed" });
    return { ran, handler: await getHandler("failed") };
  },

  async listed() {
    return {
      failed: await listHandlers({ status: ["failed"] }),
      some: await listHandlers({
        status: ["completed", "cancelled"],
        workflow_name: ["greeting", "tokens"],
      }),
    };
  },

  async refused() {
    return {
      workflow: await run("unknown", {}),
      startEvent: await run("greeting", {}),
      ended: await send("greeting", { type: "Greet", value: {} }),
      events: await read("unknown"),
    };
  },
};

const report = {};
for (const [name, play] of Object.entries(scenes)) {
  report[name] = await play();
}
console.log(JSON.stringify(report));
