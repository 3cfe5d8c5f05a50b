--- What follows a bucket. Called with what C gives moondog.jetstream; returns what adds to the class of buckets.
return function() end
