/** Runs in a table, which on a phone is a list. */

import { unwrapped, type Handler } from "../api/types";
import { preview } from "../model/format";
import { link } from "../router";
import { Ago, RunDuration, StatusBadge, standingOf } from "./parts";

export function RunTable({ handlers, withWorkflow }: { handlers: Handler[]; withWorkflow: boolean }) {
  return (
    <table class="runs">
      <thead>
        <tr>
          <th scope="col">Status</th>
          {withWorkflow && <th scope="col">Workflow</th>}
          <th scope="col">Handler</th>
          <th scope="col">Started</th>
          <th scope="col">Took</th>
          <th scope="col" class="outcome-cell">
            Outcome
          </th>
        </tr>
      </thead>
      <tbody>
        {handlers.map((handler) => (
          <tr key={handler.handler_id}>
            <td class="status-cell">
              <StatusBadge standing={standingOf(handler)} />
            </td>
            {withWorkflow && (
              <td class="workflow-cell">
                <a href={link(["workflows", handler.workflow_name])}>{handler.workflow_name}</a>
              </td>
            )}
            <td class="handler-cell">
              <a class="id" href={link(["runs", handler.handler_id])}>
                {handler.handler_id}
              </a>
            </td>
            <td class="started-cell">
              <Ago iso={handler.started_at} />
            </td>
            <td class="took-cell">
              <RunDuration handler={handler} />
            </td>
            <td class="outcome-cell" title={handler.error ?? ""}>
              {outcomeOf(handler)}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function outcomeOf(handler: Handler): string {
  if (handler.error) return handler.error;
  return handler.result ? preview(unwrapped(handler.result), 120) : "";
}
