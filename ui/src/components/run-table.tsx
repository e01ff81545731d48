/** Runs in a table, which on a phone is a list. */

import type { Handler } from "../api/types";
import { needsAnswer, outcomeOf } from "../model/phase";
import { link } from "../router";
import { Ago, RunDuration, StatusBadge } from "./parts";

interface RunTableProps {
  handlers: Handler[];
  /** What the rows are: handlers of any workflow, of one, or the runs of one handler. */
  of: "all" | "workflow" | "handler";
  /** The run that the page shows. */
  shown?: string;
}

export function RunTable({ handlers, of, shown }: RunTableProps) {
  return (
    <table class="runs">
      <thead>
        <tr>
          <th scope="col">Status</th>
          {of === "all" && <th scope="col">Workflow</th>}
          <th scope="col">{of === "handler" ? "Run" : "Handler"}</th>
          <th scope="col">Started</th>
          <th scope="col">Took</th>
          <th scope="col" class="outcome-cell">
            Outcome
          </th>
        </tr>
      </thead>
      <tbody>
        {handlers.map((handler) => (
          <tr key={handler.run_id}>
            <td class="status-cell">
              <StatusBadge handler={handler} />
            </td>
            {of === "all" && (
              <td class="workflow-cell">
                <a href={link(["workflows", handler.workflow_name])}>{handler.workflow_name}</a>
              </td>
            )}
            <td class="handler-cell">
              {of === "handler" ? (
                <a
                  class="id"
                  href={link(["runs", handler.handler_id], { run: handler.run_id })}
                  {...(handler.run_id === shown ? { "aria-current": "page" as const } : {})}
                >
                  {handler.run_id}
                </a>
              ) : (
                <a class="id" href={link(["runs", handler.handler_id])}>
                  {handler.handler_id}
                </a>
              )}
            </td>
            <td class="started-cell">
              <Ago iso={handler.started_at} />
            </td>
            <td class="took-cell">
              <RunDuration handler={handler} />
            </td>
            <td class="outcome-cell" title={handler.result ? "" : outcomeOf(handler)}>
              {needsAnswer(handler) && <span class="badge">needs an answer</span>}
              {outcomeOf(handler)}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
