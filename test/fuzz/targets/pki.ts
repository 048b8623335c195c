// Signing requests that istiod gets from the network, and certificates that anyone reads.
import assert from "node:assert/strict";
import { parseCertificate } from "#lib/pki/certificate.ts";
import { parseCsr } from "#lib/pki/csr.ts";
import { PkiError } from "#lib/pki/errors.ts";
import { formatPem } from "#lib/pki/pem.ts";
import type { FuzzTarget } from "../target.ts";
import { hex, utf8 } from "../target.ts";

/** Made with `openssl req -new` and `openssl req -x509` for spiffe://cluster.local/ns/default/sa/echo. */
const CSR =
  "308201043081ac02010030003059301306072a8648ce3d020106082a8648ce3d03010703420004a6870c734ab77be0a865ba16965a9c0c4e44d5a781dff97b2b088bd0ab741218cb23cdac78788e125d8724fa6ae416c42b850438efa6ed55afe58d7e40f2b7bfa04a304806092a864886f70d01090e313b303930370603551d110101ff042d302b86297370696666653a2f2f636c75737465722e6c6f63616c2f6e732f64656661756c742f73612f6563686f300a06082a8648ce3d040302034700304402206448d64651ebd0108da2162d870116f13f9ca936acbd8e9247864ad1fa285bf502206f8a19c5d32de2510ad429706729111b7e181a5d4aaa1de4b4f11954f77a3845";
const CERTIFICATE =
  "3082018f30820136a0030201020214211b5e2cf183763622fbbf9873e27b2f0d0b80fe300a06082a8648ce3d0403023000301e170d3236313132343034313432355a170d3336313132313034313432355a30003059301306072a8648ce3d020106082a8648ce3d03010703420004a6870c734ab77be0a865ba16965a9c0c4e44d5a781dff97b2b088bd0ab741218cb23cdac78788e125d8724fa6ae416c42b850438efa6ed55afe58d7e40f2b7bfa3818d30818a301d0603551d0e04160414a818143bb41d16bc01980eb1f65cc4a8f055bf0a301f0603551d23041830168014a818143bb41d16bc01980eb1f65cc4a8f055bf0a300f0603551d130101ff040530030101ff30370603551d110101ff042d302b86297370696666653a2f2f636c75737465722e6c6f63616c2f6e732f64656661756c742f73612f6563686f300a06082a8648ce3d040302034700304402207146d8a55762abdb9fc8c7dbd9f5bae490b285149ea9e89dd6418940f252abc20220774781afa2c9f6c3eba2ed21694aac56ec0e521947e096c15cd6605f38832bbd";

export const target: FuzzTarget = {
  name: "pki",
  // First octet: 0 a request in DER, 1 a certificate in DER, anything else PEM text of either.
  corpus: [
    ...hex(`00${CSR}`, `01${CERTIFICATE}`),
    ...utf8(
      `2${formatPem("CERTIFICATE REQUEST", Buffer.from(CSR, "hex"))}`,
      `2${formatPem("CERTIFICATE", Buffer.from(CERTIFICATE, "hex"))}`,
    ),
  ],
  words: ["-----BEGIN CERTIFICATE REQUEST-----\n", "-----END ", "URI:", "\u0000", "="],
  refusals: [PkiError],
  run(bytes) {
    const body = bytes.subarray(1);
    if (bytes[0] === 1) return describe(parseCertificate(Uint8Array.from(body)));
    if (bytes[0] === 0)
      return `request ${parseCsr(formatPem("CERTIFICATE REQUEST", body)).publicKey.type}`;
    const text = Buffer.from(body).toString("latin1");
    if (!text.includes("REQUEST")) return describe(parseCertificate(text));
    return `request ${parseCsr(text).publicKey.type}`;
  },
};

function describe(certificate: ReturnType<typeof parseCertificate>): string {
  for (const san of certificate.uriSans) assert.equal(typeof san, "string");
  assert.deepEqual(parseCertificate(certificate.pem).uriSans, certificate.uriSans);
  return `certificate with ${certificate.uriSans.length} identities`;
}
