// What a container runtime gives the CNI plugin: configuration on standard input, and its environment.
import { parseConfig } from "../../../cni/plugin/config.ts";
import { parseArgs, parseCall } from "../../../cni/plugin/environment.ts";
import { CniError } from "../../../cni/plugin/errors.ts";
import { resultIps } from "../../../cni/plugin/result.ts";
import type { FuzzTarget } from "../target.ts";
import { utf8 } from "../target.ts";

export const target: FuzzTarget = {
  name: "cni",
  corpus: utf8(
    '{"cniVersion":"1.0.0","name":"net","type":"istio-cni","plugin_log_level":"info","cni_agent_run_dir":"/run/x","ambient_enabled":true,"exclude_namespaces":["kube-system"],"prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.244.0.2/24","interface":1}],"interfaces":[{"name":"eth0","sandbox":"/proc/1/ns/net"}]}}',
    '{"cniVersion":"0.3.1","name":"net","prevResult":{"ips":[{"version":"4","address":"10.0.0.1/8"}]}}',
    '{"cniVersion":"1.1.0","name":"net","cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]}',
    "K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;K8S_POD_UID=c;IgnoreUnknown=1",
    "ADD\0abc\0/proc/1/ns/net\0eth0\0K8S_POD_NAME=a",
  ),
  words: [
    '"',
    "[",
    "{",
    "null",
    "1e999",
    '"prevResult":',
    '"ips":',
    "\0",
    ";",
    "=",
    "ADD\0",
    "DEL\0",
  ],
  refusals: [CniError],
  run(bytes) {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
    if (text.includes("\0")) {
      const [command, id, netns, ifName, args] = text.split("\0");
      parseCall({
        CNI_COMMAND: command,
        CNI_CONTAINERID: id,
        CNI_NETNS: netns,
        CNI_IFNAME: ifName,
        CNI_ARGS: args,
      });
      return "call";
    }
    if (!text.startsWith("{")) {
      parseArgs(text);
      return "args";
    }
    const config = parseConfig(text);
    return `config ${config.cniVersion}, addresses ${resultIps(config)?.length ?? "none"}`;
  },
};
