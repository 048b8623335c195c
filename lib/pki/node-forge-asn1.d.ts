// Types for the one piece of node-forge in use: loading the whole package costs every start-up 15 ms.
declare module "node-forge/lib/asn1.js" {
  import { asn1 } from "node-forge";
  export default asn1;
}
