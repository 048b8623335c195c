// Flags shared by commands: the global ones, and where a read command reads from; and how arguments are declared.
import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import { CliError } from "./errors.ts";
import { OUTPUT_FORMATS, type OutputFormat } from "./render/output.ts";
import { parseDuration } from "./render/units.ts";
import { didYouMean } from "./suggest.ts";

const GLOBAL = "GLOBAL";

/** A word of the command line. Only that: oclif would take a missing one from stdin, which is a manifest or a loop's. */
export const argument = Args.custom<string>({ ignoreStdin: true });

/** A duration flag; its value is in ms. */
export const duration = Flags.custom<number>({
  parse: async (text) => parseDuration(text),
  helpValue: "<duration>",
});

const output = Flags.custom<OutputFormat>({
  parse: async (text) => {
    const found = OUTPUT_FORMATS.find((f) => f === text);
    if (found !== undefined) return found;
    if (text === "short") return "table"; // istioctl's word for it
    throw new CliError("USAGE", `No such output format: ${JSON.stringify(text)}`, [
      ...didYouMean(text, OUTPUT_FORMATS),
      `-o takes ${OUTPUT_FORMATS.join(", ")}`,
    ]);
  },
});

/** Accepted everywhere, by every command. */
export const globalFlags = {
  namespace: Flags.string({
    char: "n",
    env: "AMBIT_NAMESPACE",
    summary: "Namespace to act in, or to show.",
    helpValue: "<namespace>",
    helpGroup: GLOBAL,
  }),
  "all-namespaces": Flags.boolean({
    char: "A",
    summary: "Every namespace.",
    helpGroup: GLOBAL,
  }),
  "istio-namespace": Flags.string({
    char: "i",
    aliases: ["istioNamespace"],
    summary: "Namespace of istiod and the ztunnels; istio-system by default.",
    helpValue: "<namespace>",
    helpGroup: GLOBAL,
  }),
  output: output({
    char: "o",
    default: "table",
    summary: `Output format: ${OUTPUT_FORMATS.join(", ")}.`,
    helpValue: "<format>",
    helpGroup: GLOBAL,
  }),
  json: Flags.boolean({ summary: "Same as -o json.", helpGroup: GLOBAL }),
  "no-headers": Flags.boolean({ summary: "Tables without their header line.", helpGroup: GLOBAL }),
  timeout: duration({
    default: 15_000,
    defaultHelp: async () => "15s",
    summary: "Longest wait for one answer, or for --wait.",
    helpGroup: GLOBAL,
  }),
  "no-color": Flags.boolean({
    summary: "Plain text only; so does NO_COLOR, or a stdout that is no terminal.",
    helpGroup: GLOBAL,
  }),
  verbose: Flags.boolean({
    char: "v",
    summary: "Say which mesh is used; on failure, show the chain of causes.",
    helpGroup: GLOBAL,
  }),
  lab: Flags.string({
    env: "AMBIT_LAB",
    summary: "Directory of the running lab; by default the one `ambit lab up` uses.",
    helpValue: "<dir>",
    helpGroup: GLOBAL,
  }),
  context: Flags.string({
    summary: "Context of the kubeconfig to use.",
    helpValue: "<context>",
    helpGroup: GLOBAL,
  }),
  kubeconfig: Flags.string({
    charAliases: ["c"], // istioctl's
    summary: "Kubeconfig file; by default KUBECONFIG, then ~/.kube/config.",
    helpValue: "<file>",
    helpGroup: GLOBAL,
  }),
  as: Flags.string({
    summary: "Act as this user in the cluster.",
    helpValue: "<user>",
    helpGroup: GLOBAL,
  }),
  "as-group": Flags.string({
    summary: "Act as a member of this group; with --as.",
    helpValue: "<group>",
    helpGroup: GLOBAL,
    multiple: true,
    multipleNonGreedy: true,
  }),
} as const;

/** `-l` of commands that list. */
export const selectorFlag = {
  selector: Flags.string({
    char: "l",
    summary: "Only objects with these labels.",
    helpValue: "<labels>",
  }),
} as const;

/** For commands that can read a saved dump as well as a running mesh. */
export const sourceFlags = {
  file: Flags.string({
    char: "f",
    summary: "Read a saved dump instead of a running mesh; - reads stdin.",
    helpValue: "<file>",
  }),
} as const;

/** Narrows to one ztunnel. */
export const nodeFlag = {
  node: Flags.string({ summary: "Ask only this node's ztunnel.", helpValue: "<node>" }),
} as const;
