// What the cluster demo needs of a cluster; how one is made is the business of whoever plays it.
import type { Notes } from "../demo/step.ts";
import type { Capture } from "../capture.ts";

export interface DemoCluster extends AsyncDisposable {
  readonly kubeconfig: string;
  /** The mesh's image, present on every node. */
  readonly image: string;
  /** @throws {StepError} with kubectl's own message */
  kubectl(args: readonly string[], input?: string): Promise<string>;
  /** Of what goes between nodes; `null` with a reason in the notes where this machine does not let us watch. */
  capture(notes: Notes): Promise<Capture | null>;
  /** A shell command on every node: its output by node. */
  onNodes(command: string): Promise<ReadonlyMap<string, string>>;
}

/** Makes the cluster, with the image and Gateway API's definitions in it, and notes how. */
export type MakeCluster = (notes: Notes) => Promise<DemoCluster>;
