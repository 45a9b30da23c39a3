package sqlite

import "testing"

// notReferring are the tables whose rows name no blob that must stay.
var notReferring = map[string]bool{
	"aliases": true, "alias_changes": true, // versions, by number
	"reports":          true,                                                       // hold their own content
	"deleted_versions": true, "job_lines": true, "audit": true, "audit_head": true, // tell of what was
	"experiments": true, "experiment_totals": true, "outcomes": true, "prediction_key": true,
	"partners": true, "agreements": true, "memberships": true, "rounds": true, // what an open round needs, federations name
	"tokens": true, "owners": true, "gates": true, "schema_version": true, "sqlite_sequence": true,
}

// A new table says whether its rows name blobs: those of a table that is
// forgotten would be collected.
func TestEveryTableIsKnownToCollection(t *testing.T) {
	s := open(t, t.TempDir())
	rows, err := s.read.Query(`SELECT name FROM sqlite_master WHERE type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		if (referring[name] != "") == notReferring[name] {
			t.Errorf("does the table %s name blobs by digest? If so, put it into referring (references.go), else into notReferring (references_test.go)", name)
		}
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
}
