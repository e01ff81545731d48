/** All runs of one handler, newest first, where there are several. */

import { useState } from "preact/hooks";
import { calls, listRuns } from "../api/client";
import type { Handler } from "../api/types";
import { CurlButton } from "../components/copy";
import { Section } from "../components/parts";
import { RunTable } from "../components/run-table";
import { useResource } from "../hooks";
import { count } from "../model/format";

const FEW = 10;
const MOST = 1_000;
const POLL_MS = 5_000;

export function RunsOfHandler({ handler }: { handler: Handler }) {
  const { handler_id: id } = handler;
  const [limit, setLimit] = useState(FEW);
  const { data: page, reload } = useResource(
    `runs of ${id}`,
    (signal) => listRuns(id, new URLSearchParams({ limit: String(limit) }), signal),
    POLL_MS,
  );
  if (!page || page.runs.length < 2) return null;
  const showMore = (): void => {
    setLimit(MOST);
    reload();
  };
  return (
    <Section
      id="runs"
      title="Runs of this handler"
      aside={<CurlButton request={() => calls.runs(id)} what="List the runs of this handler" />}
    >
      <RunTable handlers={page.runs} of="handler" shown={handler.run_id} />
      {page.next_cursor && limit < MOST && (
        <p class="pager">
          <button type="button" class="button" onClick={showMore}>
            Show older runs
          </button>
        </p>
      )}
      {page.next_cursor && limit === MOST && <p class="muted">Shown are the latest {count(MOST, "run")}.</p>}
    </Section>
  );
}
