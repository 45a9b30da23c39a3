package library

// A pin is what one source holds for one platform: where the library lies in
// the archive, and the SHA-256 of both. Nothing is taken from an archive with
// another digest; an empty digest of the library says that the archive's alone
// is known.
type pin struct {
	archive string // SHA-256
	member  string // path in the archive
	library string // SHA-256, or ""
}

// The digests of version 1.30.0, of what each source's client downloads.
const npmArchive = "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75"

var npmPins = map[platform]pin{
	{"linux", "amd64"}: {npmArchive, "package/bin/napi-v6/linux/x64/libonnxruntime.so.1",
		"ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23"},
	{"linux", "arm64"}: {npmArchive, "package/bin/napi-v6/linux/arm64/libonnxruntime.so.1",
		"1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76"},
	{"darwin", "arm64"}: {npmArchive, "package/bin/napi-v6/darwin/arm64/libonnxruntime." + Version + ".dylib",
		"685d2be5dba1309c89d3a5324b7fd06a5c42f1a61bfea32d14c4cc28d072121d"},
}

var pipPins = map[platform]pin{
	{"linux", "amd64"}: {"fa688e7891a6aa206636fe7372e27ee75fd17713289f6b4fc7b190e0a7de9328",
		"onnxruntime/capi/libonnxruntime.so." + Version,
		"c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed"},
	{"linux", "arm64"}: {"6c32a000d5139a38ba9349030b0032e3331acb559d596b22738d9d2b343a2b83",
		"onnxruntime/capi/libonnxruntime.so." + Version,
		"8a218e1e446880131115c368ec7005969a5022af9a15a26173de648fef0b7789"},
	{"darwin", "arm64"}: {"001ed726c9bd5e2bc92faade7d37d889e9606a350b7d5529f0227df2e3bb57fd",
		"onnxruntime/capi/libonnxruntime." + Version + ".dylib",
		"b46713ea6a25a5227541c21001f6422c1ccdeaecc369aa026a61b752520325c3"},
}

// wheelPlatforms are pip's names of the wheels that pipPins were taken from.
var wheelPlatforms = map[platform]string{
	{"linux", "amd64"}:  "manylinux_2_28_x86_64",
	{"linux", "arm64"}:  "manylinux_2_28_aarch64",
	{"darwin", "arm64"}: "macosx_14_0_arm64",
}

// The digests of the release archives are those that many projects which
// build on them pin alike.
var releasePins = map[platform]pin{
	{"linux", "amd64"}: {"a5ed5a3cac51fbb2e90da632ae43d19212faaa20e76484e62bcb7c23ddb3b3fd",
		releaseName("linux-x64") + "/lib/libonnxruntime.so." + Version,
		"245a6f8c38127551057a1cd1ffd59f0a186a227ade4f3492dea2494eb565542e"},
	{"linux", "arm64"}: {"e16a27a8ed330bbc698df7330b0cf56e722f354e3bcc92118682c74ef3c3e3da",
		releaseName("linux-aarch64") + "/lib/libonnxruntime.so." + Version,
		"64e903a43a041240fd6bcffe0ac6d4fea47ef87bf24b9d097801bd00a9612a4b"},
	{"darwin", "arm64"}: {"6ebb5062a934537c352937821f9fe9718e7de1a2db1122a93dd363ffd53a7012",
		releaseName("osx-arm64") + "/lib/libonnxruntime." + Version + ".dylib", ""},
}

var releasePlatforms = map[platform]string{
	{"linux", "amd64"}:  "linux-x64",
	{"linux", "arm64"}:  "linux-aarch64",
	{"darwin", "arm64"}: "osx-arm64",
}

func releaseName(platform string) string { return "onnxruntime-" + platform + "-" + Version }
