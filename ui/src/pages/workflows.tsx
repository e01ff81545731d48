/** All workflows that are served. */

import { useState } from "preact/hooks";
import { calls, getGraph, listWorkflows } from "../api/client";
import type { Representation } from "../api/types";
import { CurlButton } from "../components/copy";
import { GraphOutline } from "../components/graph";
import { Empty, Loading, ProblemNote } from "../components/parts";
import { useResource, useTitle } from "../hooks";
import { count } from "../model/format";
import { kindOf } from "../model/graph";
import { summaryOf } from "../model/schema";
import { link } from "../router";

const FILTER_FROM = 7;

export function WorkflowsPage() {
  useTitle("All workflows");
  const { data: names, problem, reload } = useResource("workflows", listWorkflows);
  const [search, setSearch] = useState("");
  const shown = names?.filter((name) => name.toLowerCase().includes(search.toLowerCase()));
  return (
    <>
      <header class="page-head">
        <h1>Workflows</h1>
        <CurlButton request={calls.workflows} what="List the workflows" />
      </header>
      {problem && <ProblemNote problem={problem} retry={reload} />}
      {!names && !problem && <Loading what="the workflows" />}
      {names && names.length >= FILTER_FROM && (
        <input
          type="search"
          class="page-search"
          aria-label="Search workflows"
          placeholder={`Search ${count(names.length, "workflow")}`}
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
      )}
      {names?.length === 0 && (
        <Empty title="No workflow is served.">
          <p>
            Give the server a file that holds one: <code>workflow-server serve flows.py</code>
          </p>
        </Empty>
      )}
      {shown?.length === 0 && names?.length !== 0 && <Empty title="No workflow has this in its name." />}
      <ul class="cards">{shown?.map((name) => <WorkflowCard key={name} name={name} />)}</ul>
    </>
  );
}

function WorkflowCard({ name }: { name: string }) {
  const { data: graph } = useResource(`graph ${name}`, (signal) => getGraph(name, signal));
  return (
    <li>
      <a class="card" href={link(["workflows", name])}>
        <h2>{name}</h2>
        <span class="card-graph">{graph && <GraphOutline graph={graph} />}</span>
        <p class="card-text">{graph ? summaryOf(graph.description) || "No description." : " "}</p>
        <p class="muted card-facts">{graph ? factsOf(graph) : " "}</p>
      </a>
    </li>
  );
}

function factsOf(graph: Representation): string {
  const kinds = graph.nodes.map(kindOf);
  const steps = kinds.filter((kind) => kind === "step").length;
  const facts = [count(steps, "step"), count(graph.nodes.filter((node) => node.node_type === "event").length, "event")];
  if (kinds.includes("question") || kinds.includes("person")) facts.push("asks a person");
  return facts.join(" · ");
}
