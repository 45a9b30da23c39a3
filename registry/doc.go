// Package registry holds the versions of models and the aliases that point at
// them.
//
// A [Version] is immutable: artifacts, their digests, and where they come
// from. It is named by number under its model's name, and by a digest of its
// content. An [Alias] is a mutable pointer, "prod" above all, that moves only
// through the pure functions [Promote] and [Rollback]; each move counts up its
// generation and leaves a [Change].
//
//	register --> name@1, name@2, name@3
//	                       ^       ^
//	            rollback --+-------+-- promote     name:prod
//
// A [Store] keeps them. What a ref or a request stands for is decided here,
// by [Model.Resolve] and [Model.Traffic].
package registry
