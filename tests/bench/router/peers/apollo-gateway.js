// node apollo-gateway.js SUPERGRAPH PORT: Apollo Gateway behind Apollo Server, as its documentation shows.
import { readFileSync } from "node:fs";
import { ApolloGateway } from "@apollo/gateway";
import { ApolloServer } from "@apollo/server";
import { startStandaloneServer } from "@apollo/server/standalone";

const [supergraph, port] = process.argv.slice(2);
const quiet = { debug() {}, info() {}, warn: console.warn, error: console.error };
const gateway = new ApolloGateway({ supergraphSdl: readFileSync(supergraph, "utf8"), logger: quiet });
const server = new ApolloServer({ gateway, logger: quiet });
await startStandaloneServer(server, { listen: { host: "127.0.0.1", port: Number(port) } });
