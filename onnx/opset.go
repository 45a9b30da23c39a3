package onnx

import (
	"fmt"

	"galley"
)

// The versions that are read: of the format, and of the standard operators.
const (
	MinIRVersion = 3
	MaxIRVersion = 14
	MinOpset     = 17
	MaxOpset     = 23
)

// checkVersions checks the IR version and that the standard operator set, if
// it is used, is one whose operators are known here. anyOpset lets older and
// newer ones pass.
func checkVersions(m *Model, anyOpset bool) error {
	if m.IRVersion < MinIRVersion || m.IRVersion > MaxIRVersion {
		return galley.Errorf(galley.Unimplemented, "model", "IR version %d is not supported", m.IRVersion).
			WithRemedy("versions %d to %d are; export the model anew or convert it with onnx.version_converter", MinIRVersion, MaxIRVersion)
	}
	for domain, version := range m.Opsets {
		if version < 1 {
			return invalid("model", "opset %s has version %d", domainName(domain), version)
		}
	}
	v, ok := m.Opsets[""]
	if ok && !anyOpset && (v < MinOpset || v > MaxOpset) {
		return galley.Errorf(galley.Unimplemented, "model", "opset %d of the standard operators is not supported", v).
			WithRemedy("opsets %d to %d are; export the model anew or convert it with onnx.version_converter", MinOpset, MaxOpset)
	}
	return nil
}

// domainName is a domain as messages show it.
func domainName(domain string) string {
	if domain == "" {
		return "ai.onnx"
	}
	return printable(domain)
}

// normalDomain maps the two names of the standard domain to "".
func normalDomain(domain string) string {
	if domain == "ai.onnx" {
		return ""
	}
	return domain
}

// opsetList writes opsets for messages: "ai.onnx 17, com.microsoft 1".
func opsetList(opsets map[string]int64) string {
	out := ""
	for _, d := range sortedKeys(opsets) {
		if out != "" {
			out += ", "
		}
		out += fmt.Sprintf("%s %d", domainName(d), opsets[d])
	}
	if out == "" {
		return "none"
	}
	return out
}
