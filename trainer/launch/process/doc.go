// Package process runs an attempt in a child process of the same program, so
// that a crash in native code costs an attempt and not the server.
//
//	server                               child: `galley attempt`
//	Launcher.Start --request, stdin----> Serve -> engine.Driver.Train
//	               <-messages, fd 3-----
//	               <-log lines, stderr--
//
// The request is one line of JSON; the parent keeps stdin open, and its end
// tells the child that the parent is gone. Messages are lines of JSON: events,
// then one result or one error, and a sign of life every few seconds. A child that
// ends without a result or an error has crashed.
//
// The child has a process group of its own and locks the job's work folder:
// two attempts never write to it at the same time. It is not told where
// galley's home is.
package process
