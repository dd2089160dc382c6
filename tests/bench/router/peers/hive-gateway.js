// node hive-gateway.js SUPERGRAPH PORT: Hive Gateway in Node's own HTTP server, as its command line runs it.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createGatewayRuntime } from "@graphql-hive/gateway-runtime";

const [supergraph, port] = process.argv.slice(2);
const gateway = createGatewayRuntime({
  supergraph: readFileSync(supergraph, "utf8"),
  logging: false,
  // Requests alike are not answered once for all, neither the clients' nor those to subgraphs.
  inboundInflightRequestDeduplication: false,
  transportEntries: { "*": { options: { deduplicateInflightRequests: false } } },
});
createServer(gateway).listen(Number(port), "127.0.0.1");
