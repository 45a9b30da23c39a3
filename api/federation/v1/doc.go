// Package federationpb holds the messages between a coordinator of federated
// rounds and the agents of its partners.
package federationpb
