/** What can be done with a run. */

import { useState } from "preact/hooks";
import { call, calls } from "../api/client";
import type { HandlerInFull, Json } from "../api/types";
import { Confirm } from "../components/confirm";
import { CurlButton } from "../components/copy";
import { Icon } from "../components/icon";
import { toast } from "../components/toast";
import { toProblem } from "../hooks";
import { standingOf, type Standing } from "../model/phase";
import { link, navigate } from "../router";
import { startRun } from "./workflow";

/** What cancelling does to a run of which no step is at work. */
const CANCELLED: Partial<Record<Standing, string>> = {
  queued: "It does not begin.",
  held: "It is not tried again.",
};

interface RunActionsProps {
  handler: HandlerInFull;
  /** Whether the handler has run again since. */
  earlier: boolean;
  onChanged: () => void;
}

export function RunActions({ handler, earlier, onChanged }: RunActionsProps) {
  const [asking, setAsking] = useState<"cancel" | "purge" | null>(null);
  const { handler_id: id, workflow_name: workflow, run_id: runId } = handler;
  const running = handler.status === "running";
  const input = handler.start_event;
  const cancel = async (): Promise<void> => {
    await call(calls.cancel(id));
    toast("Cancelled.");
    onChanged();
  };
  const purge = async (): Promise<void> => {
    await call(calls.purge(id));
    toast(`${id} is removed.`);
    navigate(link(["runs"]));
  };
  // The envelope as it is: it names its class, and may hold fields that no form shows.
  const rerun = calls.run(workflow, { start_event: input as unknown as Json });
  const again = (): void => void startRun(rerun).catch((error: unknown) => toast(toProblem(error).detail));
  return (
    <div class="row actions">
      {input && (
        <button type="button" class="button" onClick={again}>
          <Icon name="again" /> Run again
        </button>
      )}
      <a class="button" href={link(["workflows", workflow], { from: `${id} ${runId}` })}>
        <Icon name="edit" /> Edit and run
      </a>
      {!running && (
        <a class="button" href={link(["workflows", workflow], { handler: id })}>
          <Icon name="forward" /> Continue
        </a>
      )}
      {running && (
        <button type="button" class="button" onClick={() => setAsking("cancel")}>
          <Icon name="stop" /> Cancel
        </button>
      )}
      <button type="button" class="button" onClick={() => setAsking("purge")}>
        <Icon name="trash" /> Purge
      </button>
      <CurlButton request={() => calls.handler(id, earlier ? runId : null)} what="Get this handler" />
      {asking === "cancel" && (
        <Confirm title="Cancel this run?" action="Cancel the run" request={calls.cancel(id)} onConfirm={cancel} onClose={() => setAsking(null)}>
          <p>{CANCELLED[standingOf(handler)] ?? "Its steps are stopped where they are."} It cannot be resumed; its events stay.</p>
        </Confirm>
      )}
      {asking === "purge" && (
        <Confirm title="Purge this handler?" action="Purge" request={calls.purge(id)} onConfirm={purge} onClose={() => setAsking(null)}>
          <p>
            {running ? "The run is cancelled, and everything" : "Everything"} that is stored of <b class="id">{id}</b> is removed: its
            runs, events and results. This cannot be undone.
          </p>
        </Confirm>
      )}
    </div>
  );
}
