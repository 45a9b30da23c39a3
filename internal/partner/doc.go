// Package partner is the agent that a partner institution runs: it takes part in
// federated rounds by an agreement that it enforces itself.
//
//	Keygen -> identity.pem, partner.crt -> the coordinator enrols the certificate
//	Join   -> the agreement is handed over, and kept with the pinned server
//	Serve  -> Attend: offers -> Consider -> model and weights fetched
//	       -> an attempt of a job in a child process, on the partner's own rows
//	       -> update, clipped, signed, stored -> Upload
//
// The agent dials out and opens no port. What it signed is stored before it is
// sent, so that one that was killed sends the same again and never another
// update of the same attempt. What leaves is written down in sent.jsonl before
// it leaves; texts are not among it, nor words made of them.
//
// What a coordinator says is bounded and checked before it is acted on: names
// before they are paths, sizes before they are written, digests while they are,
// recipes as those of any job file.
package partner
