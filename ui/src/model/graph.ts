/** A workflow's representation, laid out. */

import dagre from "@dagrejs/dagre";
import type { GraphNode, Representation } from "../api/types";

export type NodeKind = "step" | "event" | "start" | "stop" | "question" | "answer" | "person" | "resource";

export interface PlacedNode {
  id: string;
  label: string;
  kind: NodeKind;
  node: GraphNode;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface PlacedEdge {
  source: string;
  target: string;
  path: string;
}

export interface Layout {
  nodes: PlacedNode[];
  edges: PlacedEdge[];
  width: number;
  height: number;
}

const CHARACTER = 7.3;
const MAX_LABEL = 30;
const HEIGHT = 34;
const MARGIN = 14;

export function kindOf(node: GraphNode): NodeKind {
  if (node.node_type === "step") return "step";
  if (node.node_type === "external") return "person";
  if (node.node_type === "resource") return "resource";
  const types = node.event_types ?? [];
  if (types.includes("StartEvent")) return "start";
  if (types.includes("StopEvent")) return "stop";
  if (types.includes("InputRequiredEvent")) return "question";
  if (types.includes("HumanResponseEvent")) return "answer";
  return "event";
}

export function labelOf(node: GraphNode): string {
  const label = node.node_type === "external" ? "a person" : node.label;
  return label.length > MAX_LABEL ? `${label.slice(0, MAX_LABEL - 1)}…` : label;
}

export function layOut(graph: Representation, direction: "LR" | "TB"): Layout {
  const plan = new dagre.graphlib.Graph();
  plan.setGraph({ rankdir: direction, nodesep: 22, ranksep: direction === "LR" ? 38 : 30, marginx: MARGIN, marginy: MARGIN });
  plan.setDefaultEdgeLabel(() => ({}));
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  for (const node of nodes.values()) {
    plan.setNode(node.id, { width: Math.max(64, labelOf(node).length * CHARACTER + 34), height: HEIGHT });
  }
  const edges = graph.edges.filter((edge) => nodes.has(edge.source) && nodes.has(edge.target));
  for (const edge of edges) plan.setEdge(edge.source, edge.target);
  dagre.layout(plan);
  const size = plan.graph();
  return {
    // In the order of reading, which is that of the keyboard too.
    nodes: [...nodes.values()]
      .map((node) => {
        const { x, y, width, height } = plan.node(node.id);
        return { id: node.id, label: labelOf(node), kind: kindOf(node), node, x: x ?? 0, y: y ?? 0, width, height };
      })
      .sort((a, b) => (direction === "LR" ? a.x - b.x || a.y - b.y : a.y - b.y || a.x - b.x)),
    edges: edges.map((edge) => ({
      source: edge.source,
      target: edge.target,
      path: smooth(plan.edge(edge.source, edge.target).points ?? []),
    })),
    width: Math.ceil(size.width ?? 0),
    height: Math.ceil(size.height ?? 0),
  };
}

interface Point {
  x: number;
  y: number;
}

/** A path through the middles between points, rounded at the points. */
function smooth(points: Point[]): string {
  const [first, ...rest] = points;
  const last = rest.pop();
  if (!first || !last) return "";
  const at = (point: Point): string => `${point.x.toFixed(1)},${point.y.toFixed(1)}`;
  const bends = rest.map((point, index) => {
    const next = rest[index + 1] ?? last;
    const middle = index === rest.length - 1 ? last : { x: (point.x + next.x) / 2, y: (point.y + next.y) / 2 };
    return `Q${at(point)} ${at(middle)}`;
  });
  return `M${at(first)} ${bends.length ? bends.join(" ") : `L${at(last)}`}`;
}
