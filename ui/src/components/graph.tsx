/** A workflow's graph; with a story, its steps and events light up. */

import { useMemo, useRef, useState } from "preact/hooks";
import type { Representation } from "../api/types";
import { useWidth } from "../hooks";
import { layOut, type Layout, type NodeKind, type PlacedEdge, type PlacedNode } from "../model/graph";
import { summaryOf } from "../model/schema";
import { stepState, type NodeState, type Story } from "../model/story";

interface GraphProps {
  graph: Representation;
  story?: Story;
  /** Counts up when the story has grown: stories are changed in place. */
  version?: number;
  waiting?: boolean;
}

const KINDS: Record<NodeKind, string> = {
  step: "step",
  event: "event",
  start: "start event",
  stop: "stop event",
  question: "question to a person",
  answer: "answer of a person",
  person: "waits for a person",
  resource: "resource",
};
/** Below this scale the labels are hard to read. */
const SMALLEST = 0.8;
/** Outlines of small graphs are not blown up: boxes are of about one size on all cards. */
const OUTLINE = 0.5;

export function Graph({ graph, story, waiting = false }: GraphProps) {
  const frame = useRef<HTMLDivElement>(null);
  const room = useWidth(frame);
  const { layout, scale } = useMemo(() => fit(graph, room), [graph, room]);
  const [selected, setSelected] = useState<string | null>(null);
  const states = stateNodes(layout, story, waiting);
  const chosen = layout.nodes.find((node) => node.id === selected);
  return (
    <div class="graph">
      <div ref={frame} class="graph-scroll" tabIndex={0} role="group" aria-label={`Graph of ${graph.name}`}>
        <svg
          viewBox={`0 0 ${layout.width} ${layout.height}`}
          width={Math.round(layout.width * scale)}
          height={Math.round(layout.height * scale)}
          role="group"
          aria-label={`${layout.nodes.length} steps and events`}
        >
          <defs>
            {["arrow", "arrow-lit"].map((name) => (
              <marker key={name} id={name} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto">
                <path d="M1 1 7 4 1 7" class={name} />
              </marker>
            ))}
          </defs>
          {layout.edges.map((edge) => {
            const lit = isLit(edge, states);
            const key = `${edge.source} ${edge.target}`;
            return <path key={key} class={`edge ${lit ? "lit" : ""}`} d={edge.path} marker-end={lit ? "url(#arrow-lit)" : "url(#arrow)"} />;
          })}
          {layout.nodes.map((node) => (
            <NodeShape
              key={node.id}
              node={node}
              state={states.get(node.id) ?? "idle"}
              times={timesOf(node, story)}
              selected={node.id === selected}
              onSelect={() => setSelected(node.id === selected ? null : node.id)}
            />
          ))}
        </svg>
      </div>
      {chosen ? <NodeFacts node={chosen} /> : <Legend kinds={new Set(layout.nodes.map((node) => node.kind))} />}
    </div>
  );
}

/** From left to right where that fits, else from top to bottom. */
function fit(graph: Representation, room: number): { layout: Layout; scale: number } {
  const across = layOut(graph, "LR");
  if (across.width * SMALLEST <= room) return { layout: across, scale: Math.min(1, room / across.width) };
  const down = layOut(graph, "TB");
  return { layout: down, scale: Math.min(1, Math.max(SMALLEST, room / down.width)) };
}

interface NodeShapeProps {
  node: PlacedNode;
  state: NodeState;
  times: number;
  selected: boolean;
  onSelect: () => void;
}

function NodeShape({ node, state, times, selected, onSelect }: NodeShapeProps) {
  const radius = node.kind === "step" ? 7 : node.height / 2;
  const about = [KINDS[node.kind], state === "idle" ? "" : state, times > 1 ? `${times} times` : ""].filter(Boolean).join(", ");
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    onSelect();
  };
  const place = `translate(${node.x - node.width / 2} ${node.y - node.height / 2})`;
  return (
    <>
      <g
        class={`node ${node.kind} is-${state} ${selected ? "selected" : ""}`}
        transform={place}
        role="button"
        tabindex={0}
        aria-label={`${node.label}: ${about}`}
        aria-pressed={selected}
        onClick={onSelect}
        onKeyDown={onKeyDown}
        data-node={node.id}
        data-state={state}
      >
        <rect width={node.width} height={node.height} rx={radius} />
        <text x={node.width / 2} y={node.height / 2} dy="0.35em" text-anchor="middle">
          {node.label}
        </text>
      </g>
      {times > 1 && <Times x={node.x + node.width / 2 - 6} y={node.y - node.height / 2 - 2} times={times} />}
    </>
  );
}

/** How often, at a node's corner; the node's own label says it too. */
function Times({ x, y, times }: { x: number; y: number; times: number }) {
  const digits = String(times).length;
  return (
    <g transform={`translate(${x} ${y})`} class="times" aria-hidden="true">
      <rect x={-8 - digits * 3} y="-8" width={16 + digits * 6} height="16" rx="8" />
      <text dy="0.35em" text-anchor="middle">
        {times}
      </text>
    </g>
  );
}

/** The graph's outline, for a card. */
export function GraphOutline({ graph }: { graph: Representation }) {
  const layout = useMemo(() => layOut(graph, "LR"), [graph]);
  return (
    <svg
      class="graph-outline"
      viewBox={`0 0 ${layout.width} ${layout.height}`}
      width={Math.round(layout.width * OUTLINE)}
      aria-hidden="true"
      preserveAspectRatio="xMinYMid meet"
    >
      {layout.edges.map((edge) => (
        <path key={`${edge.source} ${edge.target}`} class="edge" d={edge.path} />
      ))}
      {layout.nodes.map(({ id, kind, x, y, width, height }) => (
        <g key={id} class={`node ${kind}`}>
          <rect x={x - width / 2} y={y - height / 2} width={width} height={height} rx={kind === "step" ? 7 : height / 2} />
        </g>
      ))}
    </svg>
  );
}

function NodeFacts({ node }: { node: PlacedNode }) {
  const schema = node.node.event_schema;
  const fields = Object.entries(schema?.properties ?? {});
  const about = summaryOf(schema?.description ?? node.node.description);
  return (
    <div class="graph-facts" role="status">
      <p>
        <strong>{node.node.label}</strong> <span class="muted">{KINDS[node.kind]}</span>
      </p>
      {about && <p>{about}</p>}
      {fields.length > 0 && (
        <p class="muted">
          Fields: {fields.map(([name, field], index) => (
            <span key={name}>
              {index > 0 && ", "}
              <code title={field.description ?? ""}>{name}</code>
            </span>
          ))}
        </p>
      )}
    </div>
  );
}

function Legend({ kinds }: { kinds: Set<NodeKind> }) {
  const shown = (Object.keys(KINDS) as NodeKind[]).filter((kind) => kinds.has(kind));
  return (
    <ul class="legend" aria-label="Legend">
      {shown.map((kind) => (
        <li key={kind}>
          <span class={`swatch ${kind}`} aria-hidden="true" />
          {KINDS[kind]}
        </li>
      ))}
    </ul>
  );
}

function stateNodes(layout: Layout, story: Story | undefined, waiting: boolean): Map<string, NodeState> {
  const states = new Map<string, NodeState>();
  if (!story) return states;
  for (const node of layout.nodes) {
    if (node.kind === "step") states.set(node.id, stepState(story.steps.get(node.id)));
    else if (node.kind === "person") states.set(node.id, personState(story, waiting));
    else states.set(node.id, story.timesSeen(node.node.label) ? "done" : "idle");
  }
  return states;
}

function personState(story: Story, waiting: boolean): NodeState {
  if (waiting) return "waiting";
  return story.questions.length ? "done" : "idle";
}

function isLit(edge: PlacedEdge, states: Map<string, NodeState>): boolean {
  return (states.get(edge.source) ?? "idle") !== "idle" && (states.get(edge.target) ?? "idle") !== "idle";
}

function timesOf(node: PlacedNode, story: Story | undefined): number {
  if (!story) return 0;
  return node.kind === "step" ? (story.steps.get(node.id)?.spans.length ?? 0) : story.timesSeen(node.node.label);
}
