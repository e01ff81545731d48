/** All runs of one handler, newest first, where there are several. */

import { useState } from "preact/hooks";
import { calls, listRuns } from "../api/client";
import type { Handler, RunPage } from "../api/types";
import { CurlButton } from "../components/copy";
import { Section } from "../components/parts";
import { RunTable } from "../components/run-table";
import { useResource } from "../hooks";

const FEW = 10;
const MANY = 1_000;
const POLL_MS = 5_000;

/** The first pages of the runs; a page ends early where its results are large. */
async function readPages(id: string, pages: number, signal: AbortSignal): Promise<RunPage> {
  let read = await listRuns(id, new URLSearchParams({ limit: String(FEW) }), signal);
  for (let number = 1; number < pages && read.next_cursor; number += 1) {
    const query = new URLSearchParams({ limit: String(MANY), cursor: read.next_cursor });
    const next = await listRuns(id, query, signal);
    read = { runs: [...read.runs, ...next.runs], next_cursor: next.next_cursor };
  }
  return read;
}

export function RunsOfHandler({ handler }: { handler: Handler }) {
  const { handler_id: id } = handler;
  const [pages, setPages] = useState(1);
  const { data: page, reload } = useResource(`runs of ${id}`, (signal) => readPages(id, pages, signal), POLL_MS);
  if (!page || (page.runs.length < 2 && !page.next_cursor)) return null;
  const showMore = (): void => {
    setPages(pages + 1);
    reload();
  };
  return (
    <Section
      id="runs"
      title="Runs of this handler"
      aside={<CurlButton request={() => calls.runs(id)} what="List the runs of this handler" />}
    >
      <RunTable handlers={page.runs} of="handler" shown={handler.run_id} />
      {page.next_cursor && (
        <p class="pager">
          <button type="button" class="button" onClick={showMore}>
            Show older runs
          </button>
        </p>
      )}
    </Section>
  );
}
