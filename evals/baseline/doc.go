// Package baseline is the simple model that a trained one has to beat: TF-IDF
// of n-grams and multinomial logistic regression, trained on the spot, in
// seconds, on the same rows.
//
//	text --ngrams--> counts --Vocabulary--> L2-normalised TF-IDF --regression--> probabilities
//
// Words give n-grams of words, runs of Han and kana, which are written
// without spaces, give n-grams of characters; so one model does for mixed
// English and Chinese. Weighting and objective are those of scikit-learn's
// TfidfVectorizer and LogisticRegression, so that figures can be compared.
// The same rows always give the same model.
package baseline
